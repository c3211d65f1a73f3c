from __future__ import annotations

import numpy as np
import pytest

from streaming.mapping.time_ranges import TimeRanges


@pytest.mark.parametrize("spread", [1, 50, 10**12])
def test_ranges_are_in_order_and_about_equal(spread: int) -> None:
    rng = np.random.default_rng(3)
    times = rng.integers(0, spread, 200_000)
    rows = np.arange(200_000)
    ranges = TimeRanges()
    for start in range(0, 200_000, 1000):
        ranges.learn(times[start : start + 1000], rows[start : start + 1000])
    assert ranges.cut(8) == 8
    found = ranges.of(times, rows)
    order = np.lexsort((rows, times))
    assert (np.diff(found[order]) >= 0).all()
    assert np.bincount(found).max() < 1.2 * 200_000 / 8


def test_without_events_there_is_one_range() -> None:
    ranges = TimeRanges()
    assert ranges.cut(0) == 1
    ranges.learn(np.empty(0, np.int64), np.empty(0, np.int64))
    assert ranges.cut(5) == 1
    assert ranges.of(np.array([1]), np.array([1])).tolist() == [0]
