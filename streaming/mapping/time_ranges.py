"""Cut a set of events into ranges of time that are small enough to be sorted in memory.

Sorting range by range needs memory for one of them, whatever the number of events. (DuckDB's
external sort was tried and given up: within 256 MB it failed on 1.4 GB of wide rows.)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


class TimeRanges:
    """Learns where events lie from every 64th of them, then says which range one belongs to.

    Ranges are bounded by (time, row), not time alone: a million events of one and the same instant
    can be cut too.
    """

    _STRIDE = 64

    def __init__(self) -> None:
        self._times: list[Ints] = []
        self._rows: list[Ints] = []
        self._bounds: list[tuple[int, int]] = []

    def learn(self, times: Ints, rows: Ints) -> None:
        """Take note of n events: times in any unit, and source rows."""
        self._times.append(times[:: self._STRIDE])
        self._rows.append(rows[:: self._STRIDE])

    def cut(self, count: int) -> int:
        """Decide on about `count` ranges of about as many events each; returns their number."""
        if count > 1 and any(map(len, self._times)):
            times, rows = np.concatenate(self._times), np.concatenate(self._rows)
            order = np.lexsort((rows, times))
            picks = order[np.linspace(0, len(order), count, endpoint=False, dtype=np.int64)[1:]]
            self._bounds = sorted({(int(times[at]), int(rows[at])) for at in picks})
        return len(self._bounds) + 1

    def of(self, times: Ints, rows: Ints) -> Ints:
        """The range of each of n events, 0 the earliest.

        >>> ranges = TimeRanges()
        >>> for row, time in enumerate([30, 10, 20]):
        ...     ranges.learn(np.array([time]), np.array([row]))
        >>> ranges.cut(3), ranges.of(np.array([5, 20, 30]), np.array([3, 4, 5])).tolist()
        (3, [0, 1, 2])
        """
        ranges = np.zeros(len(times), np.int64)
        for time, row in self._bounds:
            ranges += (times > time) | ((times == time) & (rows >= row))
        return ranges
