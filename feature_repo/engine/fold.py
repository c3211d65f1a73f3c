"""Second pass over a batch: each key's new events into its block, feature rows out of it."""

from __future__ import annotations

import numba
import numpy as np

from feature_repo.engine.assign import N_GROUPS, N_ROWS, N_WORDS, NOTHING
from feature_repo.engine.block import HEAD_WORDS, keep_from, load, measure, settle, store
from feature_repo.engine.opcodes import *
from feature_repo.engine.prefetch import AHEAD, prefetch, prefetch_block
from feature_repo.engine.running import extend
from feature_repo.engine.scan import evaluate

# Why the kernel came back before the end: the caller makes room and calls it again.
DONE, MORE_WORDS, MORE_ROWS, MORE_SCRATCH = range(4)
CLASS_WORDS = 8  # blocks are a multiple of this long
CLASSES = 65_536  # longer blocks are not reused
LARGE_WORDS = 512
_LET_GO_EVERY = 64  # events of one key in one batch after which old ones are let go


@numba.njit(cache=True, nogil=True, _nrt=False)
def _merge_tile(C, V, VF, M, c, i, value, number):  # type: ignore[no-untyped-def]
    """Merge an event's value into column c of tile i."""
    bit = C[c, C_BIT]
    how = C[c, C_MERGE]
    if M[i] & bit == 0:
        M[i] |= bit
        V[c, i] = value
    elif how == MERGE_ADD_I:
        V[c, i] += value
    elif how == MERGE_ADD_F:
        VF[c, i] += number
    elif how == MERGE_MIN_I:
        V[c, i] = min(V[c, i], value)
    elif how == MERGE_MAX_I:
        V[c, i] = max(V[c, i], value)
    elif how == MERGE_MIN_F:
        VF[c, i] = min(VF[c, i], number)
    elif how == MERGE_MAX_F:
        VF[c, i] = max(VF[c, i], number)


@numba.njit(cache=True, nogil=True, _nrt=False)
def _let_go_as_known(K, SR, T, M, V, VF, S, SF, n, first, newest):  # type: ignore[no-untyped-def]
    """Settle those before `first`, apart from labels that are still news, and close up.

    In the order of when each may leave: an event that is yet to come cannot leave before any that
    has left, so that what is settled is the same for every order of arrival, bit for bit.
    """
    settled_at = newest - K[K_LATENESS]
    label = K[K_LABEL_BIT]
    while True:
        leaving = np.int64(-1)
        soonest = np.int64(0)
        for i in range(first):
            if M[i] < 0:
                continue
            when = T[i] + K[K_REACH]
            if M[i] & label != 0 and V[K[K_KNOWN], i] >= when:
                when = V[K[K_KNOWN], i] + 1
            if when <= settled_at and (leaving < 0 or when < soonest):
                leaving = np.int64(i)
                soonest = when
        if leaving < 0:
            break
        settle(SR, S, SF, T, M, V, VF, leaving)
        M[leaving] = -1  # has left
    kept = np.int64(0)
    for i in range(n):
        if M[i] >= 0:
            T[kept] = T[i]
            M[kept] = M[i]
            for c in range(K[K_COLUMNS]):
                V[c, kept] = V[c, i]
            kept += 1
    return kept


@numba.njit(cache=True, nogil=True, _nrt=False)
def _let_go(K, SR, N, T, M, V, VF, S, SF, n, newest):  # type: ignore[no-untyped-def]
    """Settle the events that need not be kept one by one, and close up; returns how many stay."""
    first = keep_from(K, N, T, M, V, n, newest)
    if first == 0:
        return n
    label = K[K_LABEL_BIT]
    if label != 0:
        for i in range(first):
            if M[i] & label != 0 and V[K[K_KNOWN], i] >= T[i] + K[K_REACH]:
                return _let_go_as_known(K, SR, T, M, V, VF, S, SF, n, first, newest)
    for i in range(first):
        settle(SR, S, SF, T, M, V, VF, i)
    for i in range(first, n):
        T[i - first] = T[i]
        M[i - first] = M[i]
    for c in range(K[K_COLUMNS]):
        for i in range(first, n):
            V[c, i - first] = V[c, i]
    return n - first


@numba.njit(cache=True, nogil=True, _nrt=False)
def _place(slot, words, slot_at, slot_words, B, free, counters):  # type: ignore[no-untyped-def]
    """Give the slot a block of at least so many words, its own if that fits."""
    had = slot_words[slot]
    slack = np.int64(had >> 1 if had >= LARGE_WORDS else 4 * CLASS_WORDS)
    if words <= had and words + slack >= had:
        return
    if had > 0:
        which = had // CLASS_WORDS
        if which < CLASSES:
            B[slot_at[slot]] = free[which]
            free[which] = slot_at[slot]
    if words >= LARGE_WORDS:
        words += words >> 2  # so that a growing block seldom moves
    which = (words + CLASS_WORDS - 1) // CLASS_WORDS
    if which < CLASSES and free[which] >= 0:
        slot_at[slot] = free[which]
        free[which] = B[free[which]]
    else:
        slot_at[slot] = counters[N_WORDS]
        counters[N_WORDS] += which * CLASS_WORDS
    slot_words[slot] = which * CLASS_WORDS


@numba.njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def _look_ahead(group, group_slot, group_first, slot_at, B, E):  # type: ignore[no-untyped-def]
    """Begin to load what a group will need: where its block is, and of a nearer one the block."""
    if group_slot[group] >= 0:
        prefetch(slot_at, group_slot[group])
    prefetch(E, group_first[group] * E.shape[1])
    slot = group_slot[max(group - AHEAD // 2, 0)]
    if slot >= 0 and slot_at[slot] >= 0:
        prefetch_block(B, slot_at[slot])


@numba.njit(cache=True, nogil=True, _nrt=False)
def fold_groups(  # type: ignore[no-untyped-def]
    K, P, A, F, C, SR, N,
    E, EF, q_time, slot_at, slot_words, B, free, counters,
    group_slot, group_first, following,
    T, M, V, VF, S, SF, AI, AF, LN, LP, LK, SB, AT, DK, DS, clock, counts,
    want_rows, oi, of, ofi, ok, row_source, row_time, begin,
):  # fmt: skip
    """Work through the groups from `begin` on.

    Returns (why it came back, at which group). What is left of that group begins at its
    `group_first`, which is moved on.
    """
    n_events = E.shape[0]
    hop = K[K_HOP]
    label = K[K_LABEL_BIT]
    columns = K[K_COLUMNS]
    fixed = 4 * HEAD_WORDS + 2 * columns + K[K_SETTLED] + 2 * CLASS_WORDS
    for group in range(begin, counters[N_GROUPS]):
        if group + AHEAD < counters[N_GROUPS]:
            _look_ahead(group + AHEAD, group_slot, group_first, slot_at, B, E)
        slot = group_slot[group]
        n = np.int64(0)
        summed = np.int64(0)  # events whose sums are up to date
        newest = np.int64(-(1 << 62))
        for s in range(K[K_SETTLED]):
            S[s] = 0
        if slot >= 0 and slot_at[slot] >= 0:
            if (B[slot_at[slot]] & 0xFFFFFFFF) + 1 >= T.shape[0]:
                return MORE_SCRATCH, group
            n, newest = load(B, slot_at[slot], K, C, T, M, V, S)
        item = group_first[group]
        changed = False
        reason = np.int64(DONE)
        taken = 0
        while item != NOTHING:
            if item >= n_events:
                question = item - n_events
                t = q_time[question]
                limit = n - 1
                while limit >= 0 and T[limit] > t:
                    limit -= 1
                extend(K, P, T, M, LP, LK, SB, summed, n)
                summed = n
                evaluate(
                    K, P, A, F, T, M, V, VF, S, SF, AI, AF, LN, LP, LK, SB, AT, DK, DS, clock,
                    t, limit, oi, of, ofi, ok, question,
                )  # fmt: skip
                item = following[item]
                continue
            if n + 1 >= T.shape[0]:
                reason = np.int64(MORE_SCRATCH)
                break
            # The largest block that this group can come to, and two more events.
            if counters[N_WORDS] + (n + 2) * (2 + columns) * 5 // 4 + fixed > B.shape[0]:
                reason = np.int64(MORE_WORDS)
                break
            prefetch(E, following[item] * E.shape[1])
            t = E[item, E_TIME]
            known = E[item, E_KNOWN]
            bits = E[item, E_BITS]
            if hop > 0:
                t -= t % hop
            at = n
            while at > 0 and T[at - 1] > t:
                at -= 1
            is_label = bits & label != 0
            # A late event changes the rows of those that came before it and happened after; a
            # label those that happened after it became known.
            again = at
            if is_label:
                again = n
                while again > 0 and T[again - 1] > known:
                    again -= 1
            rows = np.int64(0)
            if want_rows and not is_label:
                rows += np.int64(1)
            if want_rows and hop == 0:
                rows += n - again
            if counters[N_ROWS] + rows > row_source.shape[0]:
                reason = np.int64(MORE_ROWS)
                break
            if known > newest:
                newest = known
            changed = True
            position = at
            if hop > 0 and at > 0 and T[at - 1] == t:
                position = at - 1
                for c in range(columns):
                    if bits & C[c, C_BIT] != 0:
                        _merge_tile(
                            C, V, VF, M, c, position, E[item, E_VALUES + c], EF[item, E_VALUES + c]
                        )
            else:
                for i in range(n, at, -1):
                    T[i] = T[i - 1]
                    M[i] = M[i - 1]
                for c in range(columns):
                    for i in range(n, at, -1):
                        V[c, i] = V[c, i - 1]
                    V[c, at] = E[item, E_VALUES + c]
                T[at] = t
                M[at] = bits
                n += 1
            summed = min(summed, position)
            if rows > 0:
                extend(K, P, T, M, LP, LK, SB, summed, n)
                summed = n
                row = counters[N_ROWS]
                begin_at = again + 1 if is_label else position
                for later in range(begin_at, n if hop == 0 else position + 1):
                    own = later == position and not is_label
                    if not own and M[later] & label != 0:
                        continue
                    when = E[item, E_TIME] if own else T[later]
                    evaluate(
                        K, P, A, F, T, M, V, VF, S, SF, AI, AF, LN, LP, LK, SB, AT, DK, DS, clock,
                        when, later if hop == 0 else n - 1, oi, of, ofi, ok, row,
                    )  # fmt: skip
                    row_source[row] = item if own else -1 - V[K[K_ORDINAL], later]
                    row_time[row] = when
                    row += 1
                counters[N_ROWS] = row
            taken += 1
            if taken % _LET_GO_EVERY == 0:
                n = _let_go(K, SR, N, T, M, V, VF, S, SF, n, newest)
                summed = np.int64(0)
            item = following[item]
        if changed:
            n = _let_go(K, SR, N, T, M, V, VF, S, SF, n, newest)
            words, wide = measure(K, C, T, M, n, newest, counts)
            _place(slot, words, slot_at, slot_words, B, free, counters)
            store(B, slot_at[slot], K, C, T, M, V, S, n, newest, wide, counts)
        if reason != DONE:
            group_first[group] = item
            return reason, group
    return DONE, counters[N_GROUPS]
