"""Features read off their atoms, and off what lifetimes have settled."""

from __future__ import annotations

import numba
import numpy as np

from feature_repo.engine.opcodes import *


@numba.njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def give_count(F, f, lanes, S, oi, row):  # type: ignore[no-untyped-def]
    """Read a count off its word of counters."""
    count = (lanes >> ((F[f, F_BIT] & 1) << 5)) & LANES_COUNT
    if F[f, F_SETTLED] >= 0:
        count += S[np.uintp(F[f, F_SETTLED])]
    oi[row, np.uintp(F[f, F_OUT])] = count


@numba.njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def give(  # type: ignore[no-untyped-def]
    F, A, AI, AF, f, S, SF, t, began, ended, oi, of, ofi, ok, row
):
    """Read the value of feature f off its atoms (and off what is settled) into the outputs."""
    how = F[f, F_GIVE]
    if how == GIVE_OF_SESSION:
        # Of all of a session's events: what the walk itself knows.
        any_event = ended >= began
        ok[row, np.uintp(F[f, F_OK])] = any_event
        what = F[f, F_DIVISOR]
        if any_event:
            if what == GIVE_START:
                oi[row, np.uintp(F[f, F_OUT])] = began
            elif what == GIVE_SINCE:
                of[row, np.uintp(F[f, F_OUT])] = (t - ended) / 1e6
            else:
                of[row, np.uintp(F[f, F_OUT])] = (ended - began) / 1e6
        return
    a = np.uintp(F[f, F_ATOM])
    out = np.uintp(F[f, F_OUT])
    good = np.uintp(F[f, F_OK])
    s = np.uintp(max(F[f, F_SETTLED], 0))
    n = AI[a, 0]
    settled = np.int64(0)
    if F[f, F_SETTLED] >= 0:
        settled = S[s]
    total = n + settled
    if how == GIVE_SUM_I:
        value = AI[a, 1]
        if settled > 0:
            value += S[s + np.uintp(1)]
        oi[row, out] = value
        return
    if how == GIVE_COUNT:
        oi[row, out] = total
        return
    if how == GIVE_SUM_F:
        number = AF[a, 0] + AF[a, 1]
        if settled > 0:
            number += SF[s + np.uintp(1)] + SF[s + np.uintp(2)]
        of[row, out] = number
        return
    if how == GIVE_SEQUENCE:
        count = min(n, A[a, A_N])
        oi[row, out] = count
        ok[row, good] = count > 0
        return
    if total == 0:
        ok[row, good] = 0
        return
    ok[row, good] = 1
    if how == GIVE_MEAN_I:
        value = AI[a, 1]
        if settled > 0:
            value += S[s + np.uintp(1)]
        of[row, out] = value / total
    elif how == GIVE_MEAN_F:
        number = AF[a, 0] + AF[a, 1]
        if settled > 0:
            number += SF[s + np.uintp(1)] + SF[s + np.uintp(2)]
        of[row, out] = number / total
    elif how == GIVE_VALUE or how == GIVE_FLOAT:
        value = AI[a, 1]
        if settled > 0:
            older = S[s + np.uintp(2)] <= AI[a, 2]
            if A[a, A_OP] == LATEST:
                older = (
                    S[s + np.uintp(2)] > AI[a, 2]
                )  # a late label's event may be older than the settled
            if n == 0 or older:
                value = S[s + np.uintp(1)]
        if how == GIVE_VALUE:
            oi[row, out] = value
        else:
            ofi[row, out] = value
    elif how == GIVE_SINCE or how == GIVE_START or how == GIVE_DURATION:
        last = AI[a, 1]
        first = AI[a, 2]
        if settled > 0:
            if n == 0 or S[s + np.uintp(1)] > last:
                last = S[s + np.uintp(1)]
            if n == 0 or S[s + np.uintp(2)] < first:
                first = S[s + np.uintp(2)]
        if how == GIVE_SINCE:
            of[row, out] = (t - last) / 1e6
        elif how == GIVE_START:
            oi[row, out] = first
        else:
            of[row, out] = (last - first) / 1e6
    elif how == GIVE_MIN_I or how == GIVE_MAX_I:
        value = AI[a, 1]
        if settled > 0 and (
            n == 0
            or (S[s + np.uintp(1)] < value if how == GIVE_MIN_I else S[s + np.uintp(1)] > value)
        ):
            value = S[s + np.uintp(1)]
        oi[row, out] = value
    elif how == GIVE_MIN_F or how == GIVE_MAX_F:
        number = AF[a, 0]
        if settled > 0 and (
            n == 0
            or (SF[s + np.uintp(1)] < number if how == GIVE_MIN_F else SF[s + np.uintp(1)] > number)
        ):
            number = SF[s + np.uintp(1)]
        of[row, out] = number
    elif how == GIVE_STD:
        mean = 0.0
        squares = 0.0
        if n > 0:
            shift = AF[a, 2] if A[a, A_OP] == MOMENTS_F else float(AI[a, 1])
            mean = shift + AF[a, 0] / n
            squares = AF[a, 1] - AF[a, 0] * AF[a, 0] / n
        if settled > 0:
            # Two groups' spreads joined (Chan, Golub and LeVeque 1979).
            gap = mean - SF[s + np.uintp(1)] if n > 0 else 0.0
            squares += SF[s + np.uintp(2)] + gap * gap * (float(n) * float(settled) / float(total))
        of[row, out] = np.sqrt(max(squares, 0.0) / total)
    elif how == GIVE_QUOTIENT:
        other = AI[np.uintp(F[f, F_ATOM2]), 1]
        number = AF[a, 0] + AF[a, 1] if F[f, F_BIT] else float(AI[a, 1])
        ok[row, good] = other > 0
        if other > 0:
            of[row, out] = number / other
    else:  # a rate
        seconds = F[f, F_DIVISOR] / 1e6
        if F[f, F_DIVISOR] == 0:  # of a session
            seconds = (ended - began) / 1e6
        number = AF[a, 0] + AF[a, 1] if how == GIVE_RATE_F else float(AI[a, 1])
        if seconds > 0:
            of[row, out] = number / seconds
        else:
            ok[row, good] = 0
