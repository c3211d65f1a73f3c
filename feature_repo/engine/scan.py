"""Read-time evaluation: every feature of one key at an instant, by backward scans of its events.

The one place where features get their values: the live rows, the backfill, questions at an instant
and the online read all run this kernel. It walks from the newest event towards the older ones with
a running value for each atom; when it passes the older edge of a window, the features of that
window read their values off the atoms. Windows of any number and length cost one walk.
"""

from __future__ import annotations

import numba
import numpy as np

from feature_repo.engine.opcodes import *

# Four counters of 16 bits a word: the bits of four filters are spread over it and added at once.
_SPREAD = np.int64(0x0000200040008001)
_LANES = np.int64(0x0001000100010001)
_FLUSH_EVERY = 32_768  # before a counter of 16 bits runs over


@numba.njit(cache=True, nogil=True, _nrt=False, inline="always")
def _take_up(A, AI, AF, a, V, VF, DK, DS, stamp, oi, row, i, ti):  # type: ignore[no-untyped-def]
    """Add event i to atom a."""
    kind = A[a, A_OP]
    column = A[a, A_COLUMN]
    value = np.int64(0)
    if column >= 0:
        value = V[column, i]
        shift = A[a, A_SHIFT]
        if shift >= 0:
            value = (value >> shift) & TEXT_MASK
            if value == 0:
                return
    n = AI[a, 0]
    if kind == DISTINCT:
        which = A[a, A_SET]
        slots = DK.shape[1]
        at = (value * np.int64(-7046029254386353131)) >> 20 & (slots - 1)
        while DS[which, at] == stamp:
            if DK[which, at] == value:
                return
            at = (at + 1) & (slots - 1)
        DS[which, at] = stamp
        DK[which, at] = value
        AI[a, 0] = n + 1
        return
    AI[a, 0] = n + 1
    if kind == SUM_I:
        AI[a, 1] += value
    elif kind == COUNT:
        AI[a, 1] += 1
    elif kind == TIMES:
        if n == 0:
            AI[a, 1] = ti
        AI[a, 2] = ti
    elif kind == LATEST:
        if n == 0:
            AI[a, 1] = value
            AI[a, 2] = ti
    elif kind == OLDEST:
        AI[a, 1] = value
        AI[a, 2] = ti
    elif kind == MIN_I:
        if n == 0 or value < AI[a, 1]:
            AI[a, 1] = value
    elif kind == MAX_I:
        if n == 0 or value > AI[a, 1]:
            AI[a, 1] = value
    elif kind == SEQUENCE:
        if n < A[a, A_N]:
            oi[row, A[a, A_ROW] + 1 + n] = value
    elif kind == MOMENTS_I:
        # Distances from the newest value: its own distance to the mean is within the spread.
        if n == 0:
            AI[a, 1] = value
        distance = float(value - AI[a, 1])
        AF[a, 0] += distance
        AF[a, 1] += distance * distance
    else:
        number = VF[column, i]
        if kind == SUM_F:
            # Neumaier's sum: what the addition rounds away is kept beside it.
            total = AF[a, 0] + number
            if abs(AF[a, 0]) >= abs(number):
                AF[a, 1] += (AF[a, 0] - total) + number
            else:
                AF[a, 1] += (number - total) + AF[a, 0]
            AF[a, 0] = total
        elif kind == MIN_F:
            if n == 0 or number < AF[a, 0]:
                AF[a, 0] = number
        elif kind == MAX_F:
            if n == 0 or number > AF[a, 0]:
                AF[a, 0] = number
        elif kind == MOMENTS_F:
            if n == 0:
                AF[a, 2] = number
            distance = number - AF[a, 2]
            AF[a, 0] += distance
            AF[a, 1] += distance * distance


@numba.njit(cache=True, nogil=True, _nrt=False, inline="always")
def _give(  # type: ignore[no-untyped-def]
    F, A, AI, AF, f, S, SF, t, began, ended, oi, of, ofi, ok, row
):
    """Read the value of feature f off its atoms (and off what is settled) into the outputs."""
    give = F[f, F_GIVE]
    if give == GIVE_OF_SESSION:
        # Of all of a session's events: what the walk itself knows.
        any_event = ended >= began
        ok[row, F[f, F_OK]] = any_event
        what = F[f, F_DIVISOR]
        if any_event:
            if what == GIVE_START:
                oi[row, F[f, F_OUT]] = began
            elif what == GIVE_SINCE:
                of[row, F[f, F_OUT]] = (t - ended) / 1e6
            else:
                of[row, F[f, F_OUT]] = (ended - began) / 1e6
        return
    a = F[f, F_ATOM]
    s = F[f, F_SETTLED]
    out = F[f, F_OUT]
    good = F[f, F_OK]
    n = AI[a, 0]
    settled = np.int64(0)
    if s >= 0:
        settled = S[s]
    total = n + settled
    if give == GIVE_SUM_I:
        value = AI[a, 1]
        if settled > 0:
            value += S[s + 1]
        oi[row, out] = value
        return
    if give == GIVE_COUNT:
        oi[row, out] = total
        return
    if give == GIVE_SUM_F:
        number = AF[a, 0] + AF[a, 1]
        if settled > 0:
            number += SF[s + 1] + SF[s + 2]
        of[row, out] = number
        return
    if give == GIVE_SEQUENCE:
        count = min(n, A[a, A_N])
        oi[row, out] = count
        ok[row, good] = count > 0
        return
    if total == 0:
        ok[row, good] = 0
        return
    ok[row, good] = 1
    if give == GIVE_MEAN_I:
        value = AI[a, 1]
        if settled > 0:
            value += S[s + 1]
        of[row, out] = value / total
    elif give == GIVE_MEAN_F:
        number = AF[a, 0] + AF[a, 1]
        if settled > 0:
            number += SF[s + 1] + SF[s + 2]
        of[row, out] = number / total
    elif give == GIVE_VALUE or give == GIVE_FLOAT:
        value = AI[a, 1]
        if settled > 0:
            older = S[s + 2] <= AI[a, 2]
            if A[a, A_OP] == LATEST:
                older = S[s + 2] > AI[a, 2]  # a late label's event may be older than the settled
            if n == 0 or older:
                value = S[s + 1]
        if give == GIVE_VALUE:
            oi[row, out] = value
        else:
            ofi[row, out] = value
    elif give == GIVE_SINCE or give == GIVE_START or give == GIVE_DURATION:
        last = AI[a, 1]
        first = AI[a, 2]
        if settled > 0:
            if n == 0 or S[s + 1] > last:
                last = S[s + 1]
            if n == 0 or S[s + 2] < first:
                first = S[s + 2]
        if give == GIVE_SINCE:
            of[row, out] = (t - last) / 1e6
        elif give == GIVE_START:
            oi[row, out] = first
        else:
            of[row, out] = (last - first) / 1e6
    elif give == GIVE_MIN_I or give == GIVE_MAX_I:
        value = AI[a, 1]
        if settled > 0 and (
            n == 0 or (S[s + 1] < value if give == GIVE_MIN_I else S[s + 1] > value)
        ):
            value = S[s + 1]
        oi[row, out] = value
    elif give == GIVE_MIN_F or give == GIVE_MAX_F:
        number = AF[a, 0]
        if settled > 0 and (
            n == 0 or (SF[s + 1] < number if give == GIVE_MIN_F else SF[s + 1] > number)
        ):
            number = SF[s + 1]
        of[row, out] = number
    elif give == GIVE_STD:
        mean = 0.0
        squares = 0.0
        if n > 0:
            shift = AF[a, 2] if A[a, A_OP] == MOMENTS_F else float(AI[a, 1])
            mean = shift + AF[a, 0] / n
            squares = AF[a, 1] - AF[a, 0] * AF[a, 0] / n
        if settled > 0:
            # Two groups' spreads joined (Chan, Golub and LeVeque 1979).
            gap = mean - SF[s + 1] if n > 0 else 0.0
            squares += SF[s + 2] + gap * gap * (float(n) * float(settled) / float(total))
        of[row, out] = np.sqrt(max(squares, 0.0) / total)
    elif give == GIVE_QUOTIENT:
        other = AI[F[f, F_ATOM2], 1]
        number = AF[a, 0] + AF[a, 1] if F[f, F_BIT] else float(AI[a, 1])
        ok[row, good] = other > 0
        if other > 0:
            of[row, out] = number / other
    else:  # a rate
        seconds = F[f, F_DIVISOR] / 1e6
        if F[f, F_DIVISOR] == 0:  # of a session
            seconds = (ended - began) / 1e6
        number = AF[a, 0] + AF[a, 1] if give == GIVE_RATE_F else float(AI[a, 1])
        if seconds > 0:
            of[row, out] = number / seconds
        else:
            ok[row, good] = 0


@numba.njit(cache=True, nogil=True, _nrt=False)
def evaluate(  # type: ignore[no-untyped-def]
    K, P, A, F, T, M, V, VF, S, SF, AI, AF, LN, CN, DK, DS, clock, t, limit, oi, of, ofi, ok, row
):
    """Every feature at instant t over events 0..limit, into row `row` of the outputs."""
    session = K[K_SESSION_BIT]
    label = K[K_LABEL_BIT]
    known = K[K_KNOWN]
    gap = K[K_GAP]
    hop = K[K_HOP]
    newest_of_tile = hop - 1 if hop > 0 else np.int64(0)
    lanes = LN.shape[0]
    for p in range(P.shape[0]):
        back = P[p, P_BACK]
        guard = P[p, P_GUARD]
        end = t - P[p, P_DELAY]
        for a in range(P[p, P_A0], P[p, P_A1]):
            AI[a, 0] = 0
            AI[a, 1] = 0
            AI[a, 2] = 0
            AF[a, 0] = 0.0
            AF[a, 1] = 0.0
            AF[a, 2] = 0.0
        for w in range(lanes):
            LN[w] = 0
        clock[0] += 1
        stamp = clock[0]
        flushed = False
        walked = 0
        i = limit
        newer = np.int64(0)
        ended = np.int64(-1)
        if back < 0:
            while i >= 0 and T[i] > end:
                i -= 1
        else:
            while i >= 0 and M[i] & session == 0:
                i -= 1
            if i >= 0:
                open_now = t - T[i] <= gap
                if back == 0 and not open_now:
                    i = -1
                if back == 1 and open_now:
                    newer = T[i]
                    while i >= 0:
                        if M[i] & session != 0:
                            if newer - T[i] > gap:
                                break
                            newer = T[i]
                        i -= 1
            if i >= 0:
                newer = T[i]
                ended = newer
        for f in range(P[p, P_F0], P[p, P_F1]):
            window = F[f, F_WINDOW]
            older = end - window if window < FOREVER else np.int64(-(1 << 62))
            while i >= 0:
                ti = T[i]
                m = M[i]
                if back < 0:
                    if ti + newest_of_tile <= older:
                        break
                    if m & label != 0 and V[known, i] >= t:
                        i -= 1
                        continue
                else:
                    if m & session == 0:
                        i -= 1
                        continue
                    if newer - ti > gap:
                        i = -1
                        break
                    newer = ti
                rest = m
                for w in range(lanes):
                    LN[w] += ((rest & 0xF) * _SPREAD) & _LANES
                    rest >>= 4
                walked += 1
                if walked == _FLUSH_EVERY:
                    if not flushed:
                        for bit in range(CN.shape[0]):
                            CN[bit] = 0
                        flushed = True
                    for bit in range(CN.shape[0]):
                        CN[bit] += (LN[bit >> 2] >> ((bit & 3) << 4)) & 0xFFFF
                    for w in range(lanes):
                        LN[w] = 0
                    walked = 0
                if m & guard != 0:
                    for a in range(P[p, P_A0], P[p, P_A1]):
                        need = A[a, A_NEED]
                        if m & need == need:
                            _take_up(A, AI, AF, a, V, VF, DK, DS, stamp, oi, row, i, ti)
                i -= 1
            if F[f, F_GIVE] == GIVE_LANE:
                bit = F[f, F_BIT]
                count = (LN[bit >> 2] >> ((bit & 3) << 4)) & 0xFFFF
                if flushed:
                    count += CN[bit]
                if F[f, F_SETTLED] >= 0:
                    count += S[F[f, F_SETTLED]]
                oi[row, F[f, F_OUT]] = count
            else:
                _give(F, A, AI, AF, f, S, SF, t, newer, ended, oi, of, ofi, ok, row)
