"""Sliding windows (t - window, t] over sorted events, exact to the event's own timestamp."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from feature_repo.engine.sessions import Positions


def _window_starts(
    slot: npt.NDArray[np.int32], time_us: npt.NDArray[np.int64], window_us: int
) -> npt.NDArray[np.int64]:
    starts = np.empty(len(slot), np.int64)
    start = 0
    for row in range(len(slot)):
        if slot[start] != slot[row]:
            start = row
        while time_us[start] <= time_us[row] - window_us:
            start += 1
        starts[row] = start
    return starts


_compiled_window_starts = numba.njit(
    "int64[::1](int32[::1], int64[::1], int64)", cache=True, nogil=True
)(_window_starts)


def window_starts(
    slot: npt.NDArray[np.int32], time_us: npt.NDArray[np.int64], window_us: int
) -> Positions:
    """Position of the first event inside each event's window, for events sorted by (slot, time).

    Shapes: (n,), (n,) -> (n,). An event exactly `window_us` old is outside.

    >>> window_starts(np.array([0, 0, 0, 1], np.int32), np.array([0, 4, 10, 10]), 10).tolist()
    [0, 0, 1, 3]
    """
    starts: Positions = _compiled_window_starts(slot, time_us, window_us)
    return starts


def running_total(values: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    """Prefix sums with a leading 0: the sum over positions [a, b] is total[b + 1] - total[a].

    >>> running_total(np.array([2, 3])).tolist()
    [0, 2, 5]
    """
    total = np.zeros(len(values) + 1, np.int64)
    np.cumsum(values, out=total[1:])
    return total
