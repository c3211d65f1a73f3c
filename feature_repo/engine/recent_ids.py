"""The ids of recent events, by their number: a late event gives the rows after it again.

Nearly all of them are never asked for, so they are kept compressed: about 5 bytes an event where
ids count on, 25 where they are random (UUIDs), instead of 40 to 60.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_ROWS = 4_096  # batches of fewer events are joined with the next
_BATCHES = 32  # that wait to be joined: joining two takes as long as joining so many
_SCHEMA = pa.schema([("id", pa.string()), ("key", pa.string())])
# Level 1: 0.05 µs an event.
_PACKING = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", 1))
# Of nulls: Arrow imports pandas, a quarter of a second, before it looks at a Python list.
_NOTHING = pa.RecordBatch.from_arrays([pa.nulls(0, pa.string())] * 2, schema=_SCHEMA)


@dataclass(frozen=True)
class _Packed:
    """Texts of consecutive events, from number `first` on."""

    first: int
    newest_us: int
    texts: pa.Buffer

    def texts_of(self) -> pa.RecordBatch:
        with pa.ipc.open_stream(self.texts) as reader:
            return reader.read_next_batch()


class RecentIds:
    """Texts of event ids and keys of the batches that are younger than the lateness.

    An event is numbered by its place among all that the shard was given.
    """

    def __init__(self, lateness: timedelta) -> None:
        self._lateness_us = lateness // timedelta(microseconds=1)
        self._packed: deque[_Packed] = deque()
        self._packed_bytes = 0
        self._newest_us = 0
        # The last events, plain until there are some more; the newest of them not joined yet.
        self._last = _NOTHING
        self._added: list[pa.RecordBatch] = []
        self._last_rows = self._last_first = self._last_newest_us = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the texts kept."""
        return self._packed_bytes + int(self._joined().nbytes)

    def add(
        self, ids: pa.Array, keys: pa.Array, known_us: npt.NDArray[np.int64], first: int
    ) -> None:
        """Remember a batch whose first event has number `first`, and forget old ones."""
        if not len(ids):
            return
        # By the instant before this batch: its first events may be late for the batches before.
        oldest_us = self._newest_us - self._lateness_us
        while self._packed and self._packed[0].newest_us < oldest_us:
            self._packed_bytes -= self._packed.popleft().texts.size
        if self._last_rows >= _ROWS:
            self._take_up(self._pack())
            self._last, self._last_rows = _NOTHING, 0
        newest_us = int(known_us.max())
        if self._last_rows:
            newest_us = max(newest_us, self._last_newest_us)
        else:
            self._last_first = first
        self._last_newest_us = newest_us
        self._newest_us = max(self._newest_us, newest_us)
        self._added.append(pa.RecordBatch.from_arrays([ids, keys], schema=_SCHEMA))
        self._last_rows += len(ids)
        if len(self._added) >= _BATCHES:
            self._joined()

    def find(self, numbers: npt.NDArray[np.int64]) -> tuple[pa.Array, pa.Array]:
        """(ids, keys) of events by number; null where they are forgotten."""
        ids: list[Any] = [None] * len(numbers)
        keys: list[Any] = [None] * len(numbers)
        firsts = [batch.first for batch in self._packed]
        if len(last := self._joined()):
            firsts.append(self._last_first)
        whose = np.searchsorted(np.array(firsts, np.int64), numbers, side="right") - 1
        for batch in np.unique(whose[whose >= 0]).tolist():
            texts = self._packed[batch].texts_of() if batch < len(self._packed) else last
            for at in np.flatnonzero(whose == batch).tolist():
                row = int(numbers[at]) - firsts[batch]
                if row < len(texts):
                    ids[at] = texts.column("id")[row].as_py()
                    keys[at] = texts.column("key")[row].as_py()
        return pa.array(ids, pa.string()), pa.array(keys, pa.string())

    def forget(self, key: str) -> None:
        """Put nulls in the place of a key's events; the others keep their numbers."""
        self._last = _without(self._joined(), key)
        self._packed = deque(
            batch
            if (kept := _without(whole := batch.texts_of(), key)) is whole
            else _Packed(batch.first, batch.newest_us, _packed_texts(kept))
            for batch in self._packed
        )
        self._packed_bytes = sum(batch.texts.size for batch in self._packed)

    def snapshot(self) -> dict[str, Any]:
        """Plain data; the texts are shared, as they never change."""
        batches = [*self._packed, self._pack()] if self._last_rows else list(self._packed)
        return {
            "first": np.array([batch.first for batch in batches], np.int64),
            "newest_us": np.array([batch.newest_us for batch in batches], np.int64),
            "texts": [batch.texts for batch in batches],
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take up a snapshot."""
        columns = snapshot["first"].tolist(), snapshot["newest_us"].tolist(), snapshot["texts"]
        for first, newest_us, texts in zip(*columns, strict=True):
            self._newest_us = max(self._newest_us, newest_us)
            self._take_up(_Packed(first, newest_us, pa.py_buffer(texts)))

    def _joined(self) -> pa.RecordBatch:
        """The last events as one batch."""
        if self._added:
            # Joining copies: a slice would hold the whole frame that it came in.
            self._last = pa.concat_batches([self._last, *self._added])
            self._added.clear()
        return self._last

    def _pack(self) -> _Packed:
        return _Packed(self._last_first, self._last_newest_us, _packed_texts(self._joined()))

    def _take_up(self, batch: _Packed) -> None:
        self._packed.append(batch)
        self._packed_bytes += batch.texts.size


def _packed_texts(texts: pa.RecordBatch) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, _SCHEMA, options=_PACKING) as writer:
        writer.write_batch(texts)
    return sink.getvalue()


def _without(texts: pa.RecordBatch, key: str) -> pa.RecordBatch:
    """The texts, with nulls for those of a key; the batch itself if it has none."""
    its = pc.fill_null(pc.equal(texts.column("key"), key), False)
    if not pc.any(its).as_py():
        return texts
    nothing = pa.scalar(None, pa.string())
    columns = [pc.if_else(its, nothing, column) for column in texts.columns]
    return pa.RecordBatch.from_arrays(columns, schema=_SCHEMA)
