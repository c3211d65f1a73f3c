"""What a key's events add up to from the oldest on, so that a window's counts are two readings.

A window counts its events by the difference of two of these sums, and its atoms step from one event
that concerns them to the next: neither passes over what lies in between. Made once for all rows
of a key in a batch.
"""

from __future__ import annotations

import numba
import numpy as np

from feature_repo.engine.opcodes import *


@numba.njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def extend(K, P, T, M, LP, LK, SB, begin, n):  # type: ignore[no-untyped-def]
    """Bring the sums up to date for events begin..n-1.

    LP[i, w]: counters of filters over the events before i; behind them the same over the events
    inside sessions alone. LK[p, i]: the newest event of 0..i that an atom of pass p takes up, or
    -1. SB[i]: the newest event of 0..i that is inside a session, and the first of its session; -1.
    """
    session = K[K_SESSION_BIT]
    lanes = LP.shape[1] >> 1
    if begin == 0:
        for w in range(2 * lanes):
            LP[0, w] = 0
    for i in range(begin, n):
        rest = M[i]
        inside = np.int64(-1 if rest & session != 0 else 0)
        for w in range(lanes):
            ones = (rest & LANES_MASK) * LANES_SPREAD & LANES_ONES
            LP[i + 1, w] = LP[i, w] + ones
            LP[i + 1, lanes + w] = LP[i, lanes + w] + (ones & inside)
            rest >>= LANES_A_WORD
    if session != 0:
        newest = SB[begin - 1, 0] if begin > 0 else np.int64(-1)
        first = SB[begin - 1, 1] if begin > 0 else np.int64(-1)
        for i in range(begin, n):
            if M[i] & session != 0:
                if newest < 0 or T[i] - T[newest] > K[K_GAP]:
                    first = np.int64(i)
                newest = np.int64(i)
            SB[i, 0] = newest
            SB[i, 1] = first
    for p in range(P.shape[0]):
        guard = P[p, P_GUARD]
        need = session if P[p, P_BACK] >= 0 else np.int64(0)
        item = LK[p, begin - 1] if begin > 0 else np.int64(-1)
        for i in range(begin, n):
            if M[i] & guard != 0 and M[i] & need == need:
                item = np.int64(i)
            LK[p, i] = item


@numba.njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def first_inside(T, last, older, hint):  # type: ignore[no-untyped-def]
    """Index of the first of events 0..last younger than `older`; `last + 1` if there is none."""
    first = min(hint, last + 1)
    while first > 0 and T[first - 1] > older:
        first -= 1
    while first <= last and T[first] <= older:
        first += 1
    return first


@numba.njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def session_at(K, T, SB, limit, t, back):  # type: ignore[no-untyped-def]
    """(first, last) event of the session open at t, or with back=1 of the one before it.

    (0, -1) if there is none.
    """
    if limit < 0 or SB[limit, 0] < 0:
        return np.int64(0), np.int64(-1)
    last = SB[limit, 0]
    first = SB[limit, 1]
    open_now = t - T[last] <= K[K_GAP]
    if back == 0 and not open_now:
        return np.int64(0), np.int64(-1)
    if back == 1 and open_now:
        if first == 0 or SB[first - 1, 0] < 0:
            return np.int64(0), np.int64(-1)
        last = SB[first - 1, 0]
        first = SB[first - 1, 1]
    return first, last
