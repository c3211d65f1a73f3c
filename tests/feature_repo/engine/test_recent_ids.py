"""Ids of recent events are found by number, packed or not, until they are too old."""

from __future__ import annotations

import pickle
from datetime import timedelta

import numpy as np
import pyarrow as pa

from feature_repo.engine.recent_ids import RecentIds

HOUR = timedelta(hours=1)
_HOUR_US = HOUR // timedelta(microseconds=1)


def add(recent: RecentIds, first: int, count: int, known_us: int) -> None:
    numbers = range(first, first + count)
    ids, keys = [f"e{n}" for n in numbers], [f"k{n % 7}" for n in numbers]
    recent.add(pa.array(ids), pa.array(keys), np.full(count, known_us), first)


def found(recent: RecentIds, *numbers: int) -> list[tuple[str | None, str | None]]:
    ids, keys = recent.find(np.array(numbers, np.int64))
    return list(zip(ids.to_pylist(), keys.to_pylist(), strict=True))


def filled() -> RecentIds:
    recent = RecentIds(HOUR)
    for number in range(40):  # 12,000 events of 20 minutes
        add(recent, 300 * number, 300, number * 30_000_000)
    return recent


def test_events_are_found_in_any_batch_and_order() -> None:
    recent = filled()
    assert found(recent, 11_999, 0, 5_000, 12_000, -1) == [
        ("e11999", "k1"), ("e0", "k0"), ("e5000", "k2"), (None, None), (None, None)
    ]  # fmt: skip
    assert found(RecentIds(HOUR), 3) == [(None, None)]
    assert found(recent) == []


def test_a_snapshot_is_not_changed_by_later_events_and_goes_on() -> None:
    recent = filled()
    snapshot = recent.snapshot()
    add(recent, 12_000, 5_000, 0)
    restored = RecentIds(HOUR)
    restored.restore(pickle.loads(pickle.dumps(snapshot)))  # noqa: S301
    assert found(restored, 0, 11_999, 12_000) == [("e0", "k0"), ("e11999", "k1"), (None, None)]
    add(restored, 12_000, 2, 0)
    assert found(restored, 11_999, 12_001) == [("e11999", "k1"), ("e12001", "k3")]


def test_old_events_are_forgotten_and_their_memory_with_them() -> None:
    recent = filled()
    assert 0 < recent.nbytes < 12_000 * 20  # plain texts take 27 bytes an event
    add(recent, 12_000, 1, 3 * _HOUR_US)
    add(recent, 12_001, 1, 3 * _HOUR_US)  # by the instant before it
    assert found(recent, 0, 12_001) == [(None, None), ("e12001", "k3")]
    assert recent.nbytes < 120_000
