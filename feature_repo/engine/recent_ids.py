"""The ids of recent events, by their number: a late event gives the rows after it again."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_SMALL = 4_096  # batches of fewer events are joined with the next


@dataclass(frozen=True)
class _Batch:
    first: int
    newest_us: int
    ids: pa.Array
    keys: pa.Array


class RecentIds:
    """Texts of event ids and keys of the batches that are younger than the lateness.

    An event is numbered by its place among all that the shard was given.
    """

    def __init__(self, lateness: timedelta) -> None:
        self._lateness_us = lateness // timedelta(microseconds=1)
        self._batches: deque[_Batch] = deque()
        self._newest_us = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the texts kept."""
        return sum(batch.ids.nbytes + batch.keys.nbytes for batch in self._batches)

    def add(
        self, ids: pa.Array, keys: pa.Array, known_us: npt.NDArray[np.int64], first: int
    ) -> None:
        """Remember a batch whose first event has number `first`, and forget old ones."""
        if not len(ids):
            return
        # By the instant before this batch: its first events may be late for the batches before.
        while self._batches and self._batches[0].newest_us < self._newest_us - self._lateness_us:
            self._batches.popleft()
        newest = int(known_us.max())
        self._newest_us = max(self._newest_us, newest)
        # Joining copies: a slice would hold the whole frame that it came in.
        before = [ids.slice(0, 0)], [keys.slice(0, 0)]
        if self._batches and len(self._batches[-1].ids) < _SMALL:
            last = self._batches.pop()
            before = [last.ids], [last.keys]
            first, newest = last.first, max(newest, last.newest_us)
        joined = (
            pa.concat_arrays([*old, new]) for old, new in zip(before, (ids, keys), strict=True)
        )
        self._batches.append(_Batch(first, newest, *joined))

    def find(self, numbers: npt.NDArray[np.int64]) -> tuple[pa.Array, pa.Array]:
        """(ids, keys) of events by number; null where they are forgotten."""
        ids: list[Any] = [None] * len(numbers)
        keys: list[Any] = [None] * len(numbers)
        for batch in self._batches:
            inside = (numbers >= batch.first) & (numbers < batch.first + len(batch.ids))
            for at in np.flatnonzero(inside).tolist():
                ids[at] = batch.ids[int(numbers[at]) - batch.first].as_py()
                keys[at] = batch.keys[int(numbers[at]) - batch.first].as_py()
        return pa.array(ids, pa.string()), pa.array(keys, pa.string())

    def snapshot(self) -> list[tuple[int, int, pa.Array, pa.Array]]:
        """Plain data; the texts are shared, as they never change."""
        return [(batch.first, batch.newest_us, batch.ids, batch.keys) for batch in self._batches]

    def restore(self, batches: list[tuple[int, int, pa.Array, pa.Array]]) -> None:
        """Take up a snapshot."""
        for first, newest, ids, keys in batches:
            self._newest_us = max(self._newest_us, newest)
            self._batches.append(_Batch(first, newest, ids, keys))
