"""Atoms, the running values of one scan over a key's events: what each takes up from an event."""

from __future__ import annotations

import numba
import numpy as np

from feature_repo.engine.opcodes import *


@numba.njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def begin_pass(P, p, AI, AF, clock):  # type: ignore[no-untyped-def]
    """Empty the atoms of pass p; returns the mark of its sets."""
    for a in range(np.uintp(P[p, P_A0]), np.uintp(P[p, P_A1])):
        AI[a, 0] = 0
        AI[a, 1] = 0
        AI[a, 2] = 0
        AF[a, 0] = 0.0
        AF[a, 1] = 0.0
        AF[a, 2] = 0.0
    clock[0] += 1
    return clock[0]


@numba.njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def _take_up(A, AI, AF, a, V, VF, DK, DS, stamp, oi, row, i, ti):  # type: ignore[no-untyped-def]
    """Add event i to atom a."""
    kind = A[a, A_OP]
    column = A[a, A_COLUMN]
    value = np.int64(0)
    if column >= 0:
        value = V[np.uintp(column), i]
        shift = A[a, A_SHIFT]
        if shift >= 0:
            value = (value >> shift) & TEXT_MASK
            if value == 0:
                return
    n = AI[a, 0]
    if kind == DISTINCT:
        which = np.uintp(A[a, A_SET])
        slots = DK.shape[1]
        at = np.uintp((value * np.int64(-7046029254386353131)) >> 20 & (slots - 1))
        while DS[which, at] == stamp:
            if DK[which, at] == value:
                return
            at = (at + np.uintp(1)) & np.uintp(slots - 1)
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
            oi[row, np.uintp(A[a, A_ROW] + 1 + n)] = value
    elif kind == MOMENTS_I:
        # Distances from the newest value: its own distance to the mean is within the spread.
        # Values as floats, as where they are settled: beyond 2^53 both round them alike.
        if n == 0:
            AI[a, 1] = np.int64(float(value))
        distance = float(value) - float(AI[a, 1])
        AF[a, 0] += distance
        AF[a, 1] += distance * distance
    else:
        number = VF[np.uintp(column), i]
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


@numba.njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def take_up_all(  # type: ignore[no-untyped-def]
    P, p, A, AI, AF, M, V, VF, DK, DS, stamp, oi, row, i, ti
):
    """Add event i to the atoms of pass p that it concerns."""
    m = M[i]
    for a in range(np.uintp(P[p, P_A0]), np.uintp(P[p, P_A1])):
        need = A[a, A_NEED]
        if m & need == need:
            _take_up(A, AI, AF, a, V, VF, DK, DS, stamp, oi, row, i, ti)
