"""States that wait for the online store: a key's later state takes the place of its earlier one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_repo.contracts.feature_set import EntityKey
from streaming.sinks.resp import Rows


class Waiting:
    """States in the order in which they were handed over; not safe for threads by itself.

    Attributes:
        nbytes: what they hold of memory, about.
        rows: how many they are.
    """

    def __init__(self) -> None:
        self.nbytes = 0
        self.rows = 0
        self._parts: dict[EntityKey, list[Rows]] = {}

    def add(self, entity: EntityKey, rows: Rows) -> None:
        """Let rows wait; their keys are distinct."""
        if len(rows):
            self._parts.setdefault(entity, []).append(rows)
            self.nbytes += rows.keys.nbytes + rows.states.nbytes + 24 * len(rows)
            self.rows += len(rows)

    def newest(self) -> Iterator[tuple[EntityKey, Rows]]:
        """Of each entity's keys the state with the latest fence; what lies before it is dropped."""
        for entity, parts in self._parts.items():
            yield entity, _newest(parts)


def _newest(parts: list[Rows]) -> Rows:
    if len(parts) == 1:
        return parts[0]
    parts = sorted(parts, key=lambda rows: (int(rows.generations[0]), int(rows.offsets[0])))
    rows = Rows(
        pa.concat_arrays([part.keys for part in parts]),
        pa.concat_arrays([part.states for part in parts]),
        np.concatenate([part.times_us for part in parts]),
        np.concatenate([part.generations for part in parts]),
        np.concatenate([part.offsets for part in parts]),
    )
    keys = rows.keys.dictionary_encode()
    if len(keys.dictionary) == len(rows):
        return rows
    latest: npt.NDArray[np.int64] = np.zeros(len(keys.dictionary), np.int64)
    np.maximum.at(latest, keys.indices.to_numpy(), np.arange(len(rows)))
    return rows.take(np.sort(latest))
