"""The memory of a shard: keys, their blocks, and the identities of recent events."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from feature_repo.engine import assign, fold
from feature_repo.engine.state_copy import StateCopy

_FIRST_KEYS = 1_024
_FIRST_WORDS = 65_536
_FIRST_IDS = 16_384
_ARRAYS = ("slot_low", "slot_high", "slot_at", "slot_words")
_PER_BATCH = ("slot_group", "slot_batch")
_IDS = ("ids", "old_ids")
# Blocks that grow leave holes: once these are a quarter of everything, they are closed, some
# words with every batch (1 MB, 0.5 ms, and more with a large one, which also leaves more).
_HOLES = 4
_STEP_WORDS = 1 << 17
_WORDS_AN_EVENT = 64
_Words = npt.NDArray[np.int64]


@numba.njit(cache=True, nogil=True)
def _find_keys(table, slot_low, slot_high, low, high, slots):  # type: ignore[no-untyped-def]
    for key in range(low.shape[0]):
        slots[key], _ = assign.find_key(table, slot_low, slot_high, low[key], high[key])


@numba.njit(cache=True, nogil=True, _nrt=False)
def _slide(slots, slot_at, slot_words, blocks, to):  # type: ignore[no-untyped-def]
    """Move the blocks of slots, in the order of their places, down to `to`; returns their end."""
    for at in range(slots.shape[0]):
        slot = slots[at]
        begin = slot_at[slot]
        slot_at[slot] = to
        for word in range(slot_words[slot]):
            blocks[to + word] = blocks[begin + word]
        to += slot_words[slot]
    return to


class Keyspace:
    """Growing arrays that the fold kernel works on.

    `ids` and `old_ids` take turns: one takes in identities, the other remembers those before.
    """

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
        self._copy: StateCopy | None = None
        self._looked_at = 0  # words in use when holes were last looked for
        self._closing: tuple[int, int] | None = None  # (from where, to where) blocks move next

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

    def slots_of(self, low: _Words, high: _Words) -> _Words:
        """The slot of each key, by the halves of its hash; -1 where it is unknown."""
        slots = np.empty(len(low), np.int64)
        _find_keys(self.table, self.slot_low, self.slot_high, low, high, slots)
        return slots

    def forget(self, low: int, high: int) -> bool:
        """Remove a key and overwrite its block; whether it was there.

        Its slot stays, under a hash that no key has, so that the index needs no repair. A copy in
        the making would still have the key: it is spoiled.
        """
        (slot,) = self.slots_of(np.array([low]), np.array([high])).tolist()
        if self._copy is not None:
            self._copy.spoiled = True
        if slot < 0:
            return False
        begin = int(self.slot_at[slot])
        self.blocks[begin : begin + int(self.slot_words[slot])] = 0
        self.slot_at[slot], self.slot_words[slot] = assign.NOTHING, 0
        self.slot_low[slot], self.slot_high[slot] = ~slot, -1
        return True

    def make_room(self, events: int) -> None:
        """Room for as many new keys and identities."""
        self._close_holes(_STEP_WORDS + _WORDS_AN_EVENT * events)
        keys = self.keys + events + 1
        size = len(self.slot_low)
        if keys > size:
            for name in (*_ARRAYS, *_PER_BATCH):
                setattr(self, name, _longer(getattr(self, name), max(keys, size + size // 2)))
        if 2 * keys > len(self.table):
            self.table = np.zeros(1 << (2 * keys).bit_length(), np.int32)
            assign.rebuild_table(self.table, self.slot_low, self.keys)
        newer = int(self.counters[assign.IDS_TURN])
        self._make_room_for_ids(_IDS[newer], int(self.counters[assign.N_IDS]) + events)
        self._make_room_for_ids(_IDS[1 - newer], events)  # its turn may come within the batch

    def more_words(self) -> None:
        """More room for blocks: the holes, or twice as much.

        What is not used yet takes up no memory: its pages are mapped at the first touch.
        """
        if self._closing or self._has_holes():
            self._closing = self._closing or (0, 0)
            self._close_holes(int(self.counters[assign.N_WORDS]))
            if 4 * int(self.counters[assign.N_WORDS]) <= 3 * len(self.blocks):
                return
        used = int(self.counters[assign.N_WORDS])
        self.blocks = _longer(self.blocks[:used], 2 * len(self.blocks))

    def copying(self) -> StateCopy:
        """Begin a copy as of now; one at a time, the one before is spoiled."""
        if self._copy is not None:
            self._copy.spoiled = True
        self._copy = StateCopy(self)
        return self._copy

    def copied(self, copy: StateCopy) -> None:
        """The copy is complete, or no longer wanted."""
        if self._copy is copy:
            self._copy = None

    def before_change(self, slots: _Words, idents: _Words, following: _Words) -> None:
        """Tell a copy in the making which blocks will change, once events are assigned.

        Args:
            slots: of the keys that the batch touches.
            idents, following: of its events, see `assign.assign`.
        """
        if self._copy is not None:
            fresh = idents[following[: len(idents)] != assign.REPEATED]
            self._copy.save(slots, np.where(fresh == 0, 1, fresh))

    @classmethod
    def restore(cls, snapshot: dict[str, Any]) -> Keyspace:
        """Build a keyspace from a snapshot."""
        space = cls()
        keys, words = len(snapshot["slot_low"]), len(snapshot["blocks"])
        size = max(_FIRST_KEYS, keys + keys // 8 + 2)
        for name in _ARRAYS:
            setattr(space, name, _longer(snapshot[name], size))
        for name in _PER_BATCH:
            setattr(space, name, np.zeros(size, np.int32))
        space.blocks = _longer(snapshot["blocks"], max(_FIRST_WORDS, 2 * words))
        space.counters = np.array(snapshot["counters"])
        later = np.array(snapshot["ids_added"])  # copies: a kernel for read-only arrays is another
        added = np.zeros(1 << (2 * len(later)).bit_length(), np.int64)
        assign.add_ids(added, later, np.zeros(1, np.int64))
        for name in _IDS:
            ids = np.array(snapshot[name])
            space._make_room_for_ids(name, len(ids))
            assign.add_ids(getattr(space, name), ids, added)
        space.table = np.zeros(max(2 * _FIRST_KEYS, 1 << (2 * size).bit_length()), np.int32)
        assign.rebuild_table(space.table, space.slot_low, keys)
        return space

    def _make_room_for_ids(self, name: str, ids: int) -> None:
        table = getattr(self, name)
        if 3 * ids > 2 * len(table):
            larger = np.zeros(1 << max(3 * ids // 2, len(table)).bit_length(), np.int64)
            assign.copy_ids(larger, table)
            setattr(self, name, larger)

    def _has_holes(self) -> bool:
        used = int(self.counters[assign.N_WORDS])
        self._looked_at = used
        return used - int(self.slot_words[: self.keys].sum()) > used // _HOLES

    def _close_holes(self, words: int) -> None:
        """Move the blocks of about so many words down over the holes before them.

        Between two steps blocks are folded as ever: the next one asks again where they are. Holes
        noted for reuse are forgotten: those before `to` are none any more, and the others are
        closed as it goes on.
        """
        used = int(self.counters[assign.N_WORDS])
        if self._closing is None:
            if used - self._looked_at <= self._looked_at >> 4 or not self._has_holes():
                return
            self._closing = (0, 0)
        begin, to = self._closing
        end = min(begin + words, used)
        at = self.slot_at[: self.keys]
        moving = np.flatnonzero((at >= begin) & (at < end))
        moving = moving[np.argsort(at[moving])]
        if len(moving):
            last = moving[-1]
            end = max(end, int(at[last]) + int(self.slot_words[last]))
        to = int(_slide(moving, self.slot_at, self.slot_words, self.blocks, to))
        self.free.fill(-1)
        if end >= used:
            self.counters[assign.N_WORDS] = self._looked_at = to
            self._closing = None
        else:
            self._closing = (end, to)


def _longer(array: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """A copy with zeros behind it: 100 MB take 20 ms, `resize` moves them in 50."""
    longer = np.zeros(size, array.dtype)
    longer[: len(array)] = array
    return longer
