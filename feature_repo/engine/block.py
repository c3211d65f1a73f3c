"""How one key's events lie in memory: a block of 64-bit words, rewritten whole when it changes.

    words   what
    0       how many events | 1 << 32 if an event takes two words
    1       time of the first event, µs
    2       newest log time, µs: what is older than it by more than the lateness is settled
    ...     how many values each stored column has, two counts a word
    ...     settled: what lifetimes keep of events that have left
    ...     events: (time - first time) << 16 | bits; or the time, then the bits
    ...     values, column by column: those of the column's newest events

A block is a function of the key's events alone, not of how they were batched.
"""

from __future__ import annotations

import numba
import numpy as np

from feature_repo.engine.opcodes import *

HEAD_WORDS = 3
_NARROW = 1 << 47


@numba.njit(cache=True, nogil=True, _nrt=False)
def load(B, at, K, C, T, M, V, S):  # type: ignore[no-untyped-def]
    """Unpack the block at B[at:]; returns (events, newest log time)."""
    n = B[at] & 0xFFFFFFFF
    wide = B[at] >> 32
    base = B[at + 1]
    columns = K[K_COLUMNS]
    settled = K[K_SETTLED]
    counts = at + HEAD_WORDS
    place = counts + ((columns + 1) >> 1)
    for s in range(settled):
        S[s] = B[place + s]
    place += settled
    if wide:
        for i in range(n):
            T[i] = B[place + 2 * i]
            M[i] = B[place + 2 * i + 1]
        place += 2 * n
    else:
        for i in range(n):
            word = B[place + i]
            T[i] = base + (word >> 16)
            M[i] = word & 0xFFFF
        place += n
    for c in range(columns):
        count = (B[counts + (c >> 1)] >> ((c & 1) << 5)) & 0xFFFFFFFF
        if count == 0:
            continue
        bit = C[c, C_BIT]
        place += count
        source = place - 1
        i = n - 1
        while count > 0:
            if M[i] & bit != 0:
                V[c, i] = B[source]
                source -= 1
                count -= 1
            i -= 1
    return n, B[at + 2]


@numba.njit(cache=True, nogil=True, _nrt=False)
def _from_session(K, T, M, n, newest, back):  # type: ignore[no-untyped-def]
    """Index of the oldest event of the sessions that a value may still come from."""
    session = K[K_SESSION_BIT]
    gap = K[K_GAP]
    # No event that may still come is close enough to prolong a session that ended before this.
    settled_before = newest - K[K_LATENESS] - gap
    kept = n
    settled = 0
    newer = np.int64(0)
    for j in range(n):
        i = n - 1 - j
        if M[i] & session == 0:
            continue
        if kept == n or newer - T[i] > gap:
            if T[i] < settled_before:
                settled += 1
                if settled > back:
                    break
        kept = i
        newer = T[i]
    return kept


@numba.njit(cache=True, nogil=True, _nrt=False)
def keep_from(K, N, T, M, V, n, newest):  # type: ignore[no-untyped-def]
    """Index of the first event that must be kept one by one; those before it may be settled.

    Labels among these that are not known for sure yet are for `fold` to hold back.
    """
    settled_at = newest - K[K_LATENESS]
    cut = settled_at - K[K_REACH]
    tile = K[K_HOP] - 1 if K[K_HOP] > 0 else np.int64(0)
    keep = 0
    while keep < n and T[keep] + tile <= cut:
        keep += 1
    if K[K_SESSION_BIT] != 0 and keep > 0:
        keep = min(keep, _from_session(K, T, M, n, newest, K[K_BACK]))
    label = K[K_LABEL_BIT]
    for k in range(N.shape[0]):  # the latest N of a lifetime
        need = N[k, 0]
        count = N[k, 1]
        seen_by_all = settled_at - N[k, 2]
        shift = N[k, 4]
        i = n - 1
        while i >= 0 and count > 0:
            if (
                T[i] <= seen_by_all
                and M[i] & need == need
                and (shift < 0 or (V[N[k, 3], i] >> shift) & TEXT_MASK != 0)
                and (M[i] & label == 0 or V[K[K_KNOWN], i] < settled_at)
            ):
                count -= 1
            if count > 0:
                i -= 1
        keep = min(keep, max(i, 0))
    return keep


@numba.njit(cache=True, nogil=True, _nrt=False)
def settle(SR, S, SF, T, M, V, VF, i):  # type: ignore[no-untyped-def]
    """Fold event i, which leaves, into what lifetimes keep."""
    for r in range(SR.shape[0]):
        need = SR[r, S_NEED]
        if M[i] & need != need:
            continue
        column = SR[r, S_COLUMN]
        value = np.int64(0)
        if column >= 0:
            value = V[column, i]
            if SR[r, S_SHIFT] >= 0:
                value = (value >> SR[r, S_SHIFT]) & TEXT_MASK
                if value == 0:
                    continue
        s = SR[r, S_AT]
        kind = SR[r, S_OP]
        S[s] += 1
        first = S[s] == 1
        if kind == SUM_I:
            S[s + 1] += value
        elif kind == TIMES:
            if first or T[i] > S[s + 1]:
                S[s + 1] = T[i]
            if first or T[i] < S[s + 2]:
                S[s + 2] = T[i]
        elif kind == LATEST:
            if first or T[i] >= S[s + 2]:
                S[s + 1] = value
                S[s + 2] = T[i]
        elif kind == OLDEST:
            if first or T[i] < S[s + 2]:
                S[s + 1] = value
                S[s + 2] = T[i]
        elif kind == MIN_I:
            if first or value < S[s + 1]:
                S[s + 1] = value
        elif kind == MAX_I:
            if first or value > S[s + 1]:
                S[s + 1] = value
        elif kind == MIN_F:
            if first or VF[column, i] < SF[s + 1]:
                SF[s + 1] = VF[column, i]
        elif kind == MAX_F:
            if first or VF[column, i] > SF[s + 1]:
                SF[s + 1] = VF[column, i]
        elif kind == SUM_F:
            number = VF[column, i]
            total = SF[s + 1] + number
            if abs(SF[s + 1]) >= abs(number):
                SF[s + 2] += (SF[s + 1] - total) + number
            else:
                SF[s + 2] += (number - total) + SF[s + 1]
            SF[s + 1] = total
        elif kind == MOMENTS_I or kind == MOMENTS_F:
            number = VF[column, i] if kind == MOMENTS_F else float(value)
            distance = number - SF[s + 1]  # Welford
            SF[s + 1] += distance / S[s]
            SF[s + 2] += distance * (number - SF[s + 1])


@numba.njit(cache=True, nogil=True, _nrt=False)
def measure(K, C, T, M, n, newest, counts):  # type: ignore[no-untyped-def]
    """How many words n events take as a block; `counts[c]` says how many values column c keeps.

    A value that nothing can ask for any more loses its event's bit of that column: what is kept is
    what has the bit.
    """
    settled_at = newest - K[K_LATENESS]
    tile = K[K_HOP] - 1 if K[K_HOP] > 0 else np.int64(0)
    session = K[K_SESSION_BIT]
    wide = K[K_WIDE] != 0 or (n > 0 and T[n - 1] - T[0] >= _NARROW)
    columns = K[K_COLUMNS]
    words = HEAD_WORDS + ((columns + 1) >> 1) + K[K_SETTLED] + n * (2 if wide else 1)
    open_from = np.int64(-1)
    for c in range(columns):
        bit = C[c, C_BIT]
        reach = C[c, C_REACH]
        back = C[c, C_BACK]
        cut = settled_at - reach if reach >= 0 else np.int64(1 << 62)
        if reach >= FOREVER:
            cut = np.int64(-(1 << 62))
        from_session = n
        if back == 0:
            if open_from < 0:  # the walk that most columns need is made once
                open_from = _from_session(K, T, M, n, newest, 0)
            from_session = open_from
        elif back > 0:
            from_session = _from_session(K, T, M, n, newest, back)
        count = 0
        for i in range(n):
            if M[i] & bit != 0:
                if T[i] + tile > cut or (i >= from_session and M[i] & session != 0):
                    count += 1
                else:
                    M[i] ^= bit
        counts[c] = count
        words += count
    return words, wide


@numba.njit(cache=True, nogil=True, _nrt=False)
def store(B, at, K, C, T, M, V, S, n, newest, wide, counts):  # type: ignore[no-untyped-def]
    """Write n events as a block at B[at:]; returns the words written."""
    columns = K[K_COLUMNS]
    settled = K[K_SETTLED]
    base = T[0] if n > 0 else np.int64(0)
    B[at] = n | ((1 << 32) if wide else 0)
    B[at + 1] = base
    B[at + 2] = newest
    place = at + HEAD_WORDS
    half = (columns + 1) >> 1
    for w in range(half):
        B[place + w] = 0
    for c in range(columns):
        B[place + (c >> 1)] |= counts[c] << ((c & 1) << 5)
    place += half
    for s in range(settled):
        B[place + s] = S[s]
    place += settled
    if wide:
        for i in range(n):
            B[place] = T[i]
            B[place + 1] = M[i]
            place += 2
    else:
        for i in range(n):
            B[place] = ((T[i] - base) << 16) | M[i]
            place += 1
    for c in range(columns):
        if counts[c] > 0:
            bit = C[c, C_BIT]
            for i in range(n):
                if M[i] & bit != 0:
                    B[place] = V[c, i]
                    place += 1
    return place - at
