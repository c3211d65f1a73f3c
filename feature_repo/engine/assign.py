"""First pass over a batch, in log order: drop repeated events, find keys, link each key's events.

The second pass (`fold`) then takes each key's block up once, however many events it has.
"""

from __future__ import annotations

import numba
import numpy as np

from feature_repo.engine.opcodes import *

# Entries of the vector of a shard's counters.
N_KEYS, N_WORDS, N_ROWS, N_DUPLICATES, N_GROUPS, N_IDS, IDS_SINCE, IDS_TURN = range(8)
N_COUNTERS = 8
NOTHING = -1
REPEATED = -2  # what follows an event that had come before
_SHORTEST_MEMORY_US = 60_000_000


@numba.njit(cache=True, nogil=True, _nrt=False)
def find_key(table, slot_low, slot_high, low, high):  # type: ignore[no-untyped-def]
    """(slot of a key or -1, place in the table)."""
    mask = table.shape[0] - 1
    at = low & mask
    while True:
        slot = table[at] - 1
        if slot < 0 or (slot_low[slot] == low and slot_high[slot] == high):
            return slot, at
        at = (at + 1) & mask


@numba.njit(cache=True, nogil=True, _nrt=False)
def rebuild_table(table, slot_low, keys):  # type: ignore[no-untyped-def]
    """Fill an empty table with the first `keys` slots."""
    mask = table.shape[0] - 1
    for slot in range(keys):
        at = slot_low[slot] & mask
        while table[at] != 0:
            at = (at + 1) & mask
        table[at] = slot + 1


@numba.njit(cache=True, nogil=True, _nrt=False)
def _has_id(ids, ident):  # type: ignore[no-untyped-def]
    """Whether an identity is in a table of them (0 stands for an empty place)."""
    mask = ids.shape[0] - 1
    at = (ident ^ (ident >> 29)) & mask
    while ids[at] != 0:
        if ids[at] == ident:
            return True
        at = (at + 1) & mask
    return False


@numba.njit(cache=True, nogil=True, _nrt=False)
def _add_id(ids, ident):  # type: ignore[no-untyped-def]
    mask = ids.shape[0] - 1
    at = (ident ^ (ident >> 29)) & mask
    while ids[at] != 0:
        at = (at + 1) & mask
    ids[at] = ident


@numba.njit(cache=True, nogil=True, _nrt=False)
def copy_ids(ids, others):  # type: ignore[no-untyped-def]
    """Put all identities of one table into another, larger one."""
    for place in range(others.shape[0]):
        if others[place] != 0:
            _add_id(ids, others[place])


@numba.njit(cache=True, nogil=True, _nrt=False)
def add_ids(ids, some, others):  # type: ignore[no-untyped-def]
    """Put those of some identities into a table that are not in another one."""
    for at in range(some.shape[0]):
        if not _has_id(others, some[at]):
            _add_id(ids, some[at])


@numba.njit(cache=True, nogil=True, _nrt=False)
def assign(  # type: ignore[no-untyped-def]
    lateness, order, e_low, e_high, e_ident, e_known, q_low, q_high,
    table, slot_low, slot_high, slot_at, slot_words, slot_group, slot_batch,
    counters, ids, old_ids, batch, group_slot, group_first, group_last, following,
):  # fmt: skip
    """Link the items of `order` (events, and questions as index - n) key by key.

    `group_first[g]` and `following[item]` lead through the items of group g, in order; an event
    left out is followed by `REPEATED`. The caller has made room for every key and identity before.
    """
    n_events = e_low.shape[0]
    # An identity is remembered for a lateness at least: two tables that take turns.
    remember = max(lateness, np.int64(_SHORTEST_MEMORY_US))
    newer, older = ids, old_ids
    if counters[IDS_TURN] != 0:
        newer, older = old_ids, ids
    groups = 0
    for step in range(order.shape[0]):
        item = order[step]
        if item >= n_events:
            question = item - n_events
            slot, _ = find_key(table, slot_low, slot_high, q_low[question], q_high[question])
        else:
            ident = e_ident[item]
            if ident == 0:
                ident = np.int64(1)
            if _has_id(newer, ident) or _has_id(older, ident):
                counters[N_DUPLICATES] += 1
                following[item] = REPEATED
                continue
            known = e_known[item]
            if known - counters[IDS_SINCE] > remember:
                lately = known - counters[IDS_SINCE] <= 2 * remember
                newer, older = older, newer
                counters[IDS_TURN] = 1 - counters[IDS_TURN]
                newer[:] = 0
                if not lately:
                    older[:] = 0
                counters[N_IDS] = 0
                counters[IDS_SINCE] = known
            _add_id(newer, ident)
            counters[N_IDS] += 1
            slot, place = find_key(table, slot_low, slot_high, e_low[item], e_high[item])
            if slot < 0:
                slot = counters[N_KEYS]
                counters[N_KEYS] += 1
                table[place] = slot + 1
                slot_low[slot] = e_low[item]
                slot_high[slot] = e_high[item]
                slot_at[slot] = NOTHING
                slot_words[slot] = 0
                slot_batch[slot] = 0
        following[item] = NOTHING
        if slot >= 0 and slot_batch[slot] == batch:
            group = slot_group[slot]
            following[group_last[group]] = item
            group_last[group] = item
        else:
            group_slot[groups] = slot
            group_first[groups] = item
            group_last[groups] = item
            if slot >= 0:
                slot_batch[slot] = batch
                slot_group[slot] = groups
            groups += 1
    counters[N_GROUPS] = groups
