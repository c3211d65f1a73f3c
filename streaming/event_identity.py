"""Which events two sources have in common: 64 bits an event, whatever its columns look like."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_repo.contracts.feature_set import EntityKey
from feature_repo.engine.hashing import hash64
from feature_repo.engine.projection import key_texts

Identities = npt.NDArray[np.int64]
_ODD = np.int64(-7046029254386353131)  # 2^64 / golden ratio: spreads the key over all bits


def identities(entity: EntityKey, events: pa.RecordBatch) -> Identities:
    """A number for each of n events, of its key and its id, shape (n,).

    Of 10^9 events two different ones share a number with a probability of 3 %.
    """
    return hash64(events.column("event_id")) ^ (hash64(key_texts(entity, events)) * _ODD)


def first_of_each(found: Identities) -> npt.NDArray[np.bool_]:
    """Which of n identities stand for the first time, shape (n,)."""
    keep = np.zeros(len(found), np.bool_)
    keep[np.unique(found, return_index=True)[1]] = True
    return keep


class IdentitySet:
    """Identities to be found again, and which of them were: 9 bytes each."""

    def __init__(self, parts: Iterable[Identities]) -> None:
        held = list(parts)
        self._sorted = np.unique(np.concatenate(held)) if held else np.empty(0, np.int64)
        self._marked = np.zeros(len(self._sorted), np.bool_)

    def __len__(self) -> int:
        return len(self._sorted)

    def mark(self, found: Identities) -> None:
        """Remember those of the set that are among these."""
        if len(self):
            places = self._places(found)
            self._marked[places[self._sorted[places] == found]] = True

    def marked(self, found: Identities) -> npt.NDArray[np.bool_]:
        """Whether each of n was marked, shape (n,)."""
        if not len(self):
            return np.zeros(len(found), np.bool_)
        places = self._places(found)
        result: npt.NDArray[np.bool_] = (self._sorted[places] == found) & self._marked[places]
        return result

    def _places(self, found: Identities) -> npt.NDArray[np.intp]:
        """Where each stands, if it is in the set."""
        return np.minimum(np.searchsorted(self._sorted, found), len(self) - 1)
