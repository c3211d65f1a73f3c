"""Read-time evaluation: every feature of one key at an instant, from its newest events backwards.

The one place where features get their values: the live rows, the backfill, questions at an instant
and the online read all run this kernel. It goes from the newest event towards the older ones with
a running value for each atom; when it passes the older edge of a window, the features of that
window read their values off the atoms. Windows of any number and length cost one pass.

Places are unsigned where many are looked up: signed ones may count from an array's end, which is
asked at every look (measured: 15 % of the kernel). The kernels are forced into one function, since
handing thirty arrays to another costs more than what most of them do.
"""

from __future__ import annotations

import numba
import numpy as np

from feature_repo.engine.atoms import begin_pass, take_up_all
from feature_repo.engine.give import give, give_count
from feature_repo.engine.opcodes import *
from feature_repo.engine.running import first_inside, session_at


@numba.njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def _by_sums(  # type: ignore[no-untyped-def]
    K, P, A, F, T, M, V, VF, S, SF, AI, AF, LP, LK, SB, AT, DK, DS, clock, t, limit, p,
    oi, of, ofi, ok, row,
):  # fmt: skip
    """A pass of a session, or of sliding windows and lifetimes, by the sums over the events."""
    stamp = begin_pass(P, p, AI, AF, clock)
    back = P[p, P_BACK]
    lanes = np.int64(0)
    began = np.int64(0)
    ended = np.int64(-1)
    end = t - P[p, P_DELAY]
    if back >= 0:
        lanes = LP.shape[1] >> 1
        first, last = session_at(K, T, SB, limit, t, back)
        if last >= 0:
            began = T[first]
            ended = T[last]
    else:
        last = limit
        while last >= 0 and T[last] > end:
            last -= 1
        first = last + 1
    item = LK[p, last] if last >= 0 else np.int64(-1)
    older = np.int64(0)
    reached = np.int64(-1)
    for f in range(np.uintp(P[p, P_F0]), np.uintp(P[p, P_F1])):
        window = F[f, F_WINDOW]
        if window != reached:
            reached = window
            if back < 0:
                older = np.int64(-(1 << 62))
                if window < FOREVER:
                    older = end - window - max(K[K_HOP] - 1, 0)
                first = first_inside(T, last, older, AT[f])
                AT[f] = first
            while item >= first:
                take_up_all(
                    P,
                    p,
                    A,
                    AI,
                    AF,
                    M,
                    V,
                    VF,
                    DK,
                    DS,
                    stamp,
                    oi,
                    row,
                    np.uintp(item),
                    T[np.uintp(item)],
                )
                item = LK[p, np.uintp(item - 1)] if item > 0 else np.int64(-1)
        if F[f, F_GIVE] == GIVE_LANE:
            w = np.uintp(lanes + (F[f, F_BIT] >> 1))
            give_count(F, f, LP[np.uintp(last + 1), w] - LP[np.uintp(first), w], S, oi, row)
        else:
            give(F, A, AI, AF, f, S, SF, t, began, ended, oi, of, ofi, ok, row)


@numba.njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def _event_by_event(  # type: ignore[no-untyped-def]
    K, P, A, F, T, M, V, VF, S, SF, AI, AF, LN, DK, DS, clock, t, limit, p,
    oi, of, ofi, ok, row,
):  # fmt: skip
    """A pass of sliding windows and lifetimes where labels are: each instant sees other events."""
    stamp = begin_pass(P, p, AI, AF, clock)
    guard = P[p, P_GUARD]
    end = t - P[p, P_DELAY]
    newest_of_tile = max(K[K_HOP] - 1, 0)
    for w in range(LN.shape[0]):
        LN[w] = 0
    i = limit
    while i >= 0 and T[i] > end:
        i -= 1
    for f in range(np.uintp(P[p, P_F0]), np.uintp(P[p, P_F1])):
        window = F[f, F_WINDOW]
        older = end - window if window < FOREVER else np.int64(-(1 << 62))
        while i >= 0 and T[i] + newest_of_tile > older:
            m = M[i]
            if m & K[K_LABEL_BIT] == 0 or V[K[K_KNOWN], i] < t:
                rest = m
                for w in range(LN.shape[0]):
                    LN[w] += (rest & LANES_MASK) * LANES_SPREAD & LANES_ONES
                    rest >>= LANES_A_WORD
                if m & guard != 0:
                    take_up_all(
                        P, p, A, AI, AF, M, V, VF, DK, DS, stamp, oi, row, np.uintp(i), T[i]
                    )
            i -= 1
        if F[f, F_GIVE] == GIVE_LANE:
            give_count(F, f, LN[F[f, F_BIT] >> 1], S, oi, row)
        else:
            give(F, A, AI, AF, f, S, SF, t, np.int64(0), np.int64(-1), oi, of, ofi, ok, row)


@numba.njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def evaluate(  # type: ignore[no-untyped-def]
    K, P, A, F, T, M, V, VF, S, SF, AI, AF, LN, LP, LK, SB, AT, DK, DS, clock, t, limit,
    oi, of, ofi, ok, row,
):  # fmt: skip
    """Every feature at instant t over events 0..limit, into row `row` of the outputs.

    The sums over the events (`running.extend`) must be up to date.
    """
    place = np.uintp(row)
    for p in range(np.uintp(P.shape[0])):
        if P[p, P_BACK] < 0 and K[K_LABEL_BIT] != 0:
            _event_by_event(
                K, P, A, F, T, M, V, VF, S, SF, AI, AF, LN, DK, DS, clock, t, limit, p,
                oi, of, ofi, ok, place,
            )  # fmt: skip
        else:
            _by_sums(
                K, P, A, F, T, M, V, VF, S, SF, AI, AF, LP, LK, SB, AT, DK, DS, clock, t, limit, p,
                oi, of, ofi, ok, place,
            )  # fmt: skip
