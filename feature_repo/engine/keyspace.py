"""The memory of a shard: keys, their blocks, and the identities of recent events."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from feature_repo.engine import assign, fold

_FIRST_KEYS = 1_024
_FIRST_WORDS = 65_536
_FIRST_IDS = 16_384
_ARRAYS = ("slot_low", "slot_high", "slot_at", "slot_words")
_PER_BATCH = ("slot_group", "slot_batch")


@numba.njit(cache=True, nogil=True)
def _find_keys(table, slot_low, slot_high, low, high, slots):  # type: ignore[no-untyped-def]
    for key in range(low.shape[0]):
        slots[key], _ = assign.find_key(table, slot_low, slot_high, low[key], high[key])


class Keyspace:
    """Growing arrays that the fold kernel works on."""

    def __init__(self) -> None:
        self.table = np.zeros(2 * _FIRST_KEYS, np.int32)
        self.slot_low = np.zeros(_FIRST_KEYS, np.int64)
        self.slot_high = np.zeros(_FIRST_KEYS, np.int64)
        self.slot_at = np.zeros(_FIRST_KEYS, np.int64)
        self.slot_words = np.zeros(_FIRST_KEYS, np.int32)
        self.slot_group = np.zeros(_FIRST_KEYS, np.int32)
        self.slot_batch = np.zeros(_FIRST_KEYS, np.int32)
        self.blocks = np.zeros(_FIRST_WORDS, np.int64)
        self.free = np.full(fold.CLASSES, -1, np.int64)
        self.counters = np.zeros(assign.N_COUNTERS, np.int64)
        self.ids = np.zeros(_FIRST_IDS, np.int64)
        self.old_ids = np.zeros(_FIRST_IDS, np.int64)

    @property
    def keys(self) -> int:
        """How many keys there are."""
        return int(self.counters[assign.N_KEYS])

    @property
    def nbytes(self) -> int:
        """Bytes in use: blocks, keys and their index, identities."""
        used = int(self.counters[assign.N_WORDS]) * 8
        per_key = sum(getattr(self, name).itemsize for name in (*_ARRAYS, *_PER_BATCH))
        tables = self.table.nbytes + self.ids.nbytes + self.old_ids.nbytes
        return int(used + self.keys * per_key + tables)

    def slots_of(
        self, low: npt.NDArray[np.int64], high: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """The slot of each key, by the halves of its hash; -1 where it is unknown."""
        slots = np.empty(len(low), np.int64)
        _find_keys(self.table, self.slot_low, self.slot_high, low, high, slots)
        return slots

    def make_room(self, events: int) -> None:
        """Room for as many new keys and identities."""
        keys = self.keys + events + 1
        size = len(self.slot_low)
        if keys > size:
            for name in (*_ARRAYS, *_PER_BATCH):
                # In place: a large array is moved by the page table, not copied.
                getattr(self, name).resize(max(keys, size + size // 2), refcheck=False)
        if 2 * keys > len(self.table):
            self.table = np.zeros(1 << (2 * keys).bit_length(), np.int32)
            assign.rebuild_table(self.table, self.slot_low, self.keys)
        ids = int(self.counters[assign.N_IDS]) + events
        if 2 * ids > len(self.ids):
            for name in ("ids", "old_ids"):
                larger = np.zeros(1 << (2 * ids).bit_length(), np.int64)
                assign.copy_ids(larger, getattr(self, name))
                setattr(self, name, larger)

    def more_words(self) -> None:
        """More room for blocks: twice as much, from 64 MB on an eighth more."""
        size = len(self.blocks)
        more = size if size < (1 << 23) else size >> 3
        self.blocks.resize(size + more, refcheck=False)

    def snapshot(self) -> dict[str, Any]:
        """Copies of everything that an equal keyspace is built from."""
        keys, words = self.keys, int(self.counters[assign.N_WORDS])
        return {
            **{name: getattr(self, name)[:keys].copy() for name in _ARRAYS},
            "blocks": self.blocks[:words].copy(),
            "free": self.free.copy(),
            "counters": self.counters.copy(),
            "ids": self.ids.copy(),
            "old_ids": self.old_ids.copy(),
        }

    @classmethod
    def restore(cls, snapshot: dict[str, Any]) -> Keyspace:
        """Build a keyspace from a snapshot."""
        space = cls()
        keys = len(snapshot["slot_low"])
        size = max(_FIRST_KEYS, keys + keys // 8 + 2)
        for name in _ARRAYS:
            array = np.zeros(size, getattr(space, name).dtype)
            array[:keys] = snapshot[name]
            setattr(space, name, array)
        for name in _PER_BATCH:
            setattr(space, name, np.zeros(size, np.int32))
        words = len(snapshot["blocks"])
        space.blocks = np.zeros(max(_FIRST_WORDS, words + words // 8), np.int64)
        space.blocks[:words] = snapshot["blocks"]
        for name in ("free", "counters", "ids", "old_ids"):
            setattr(space, name, np.array(snapshot[name]))
        space.table = np.zeros(max(2 * _FIRST_KEYS, 1 << (2 * size).bit_length()), np.int32)
        assign.rebuild_table(space.table, space.slot_low, keys)
        return space
