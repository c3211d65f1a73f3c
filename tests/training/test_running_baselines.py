from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from training.evaluation.baselines import GroupMean, WeibullExpectation
from training.running_baselines import Floats, RunningMean, RunningWeibull


def durations(count: int, seed: int = 1) -> tuple[Floats, Floats]:
    """Rows whose second column is a group (missing at times), and log1p of Weibull seconds."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 4, count).astype(float)
    group[rng.random(count) < 0.1] = np.nan
    scale = 60.0 * (1 + np.nan_to_num(group, nan=6.0))
    seconds = scale * rng.weibull(0.8, count) * (rng.random(count) > 0.1)
    return np.c_[np.zeros(count), group], np.log1p(seconds)


def in_parts(count: int, size: int) -> list[slice]:
    return [slice(at, at + size) for at in range(0, count, size)]


def test_a_running_mean_is_the_mean_of_what_was_learnt() -> None:
    rows, target = durations(1_000)
    running = RunningMean(1)
    assert running.predict(rows[:3]).tolist() == [0.0, 0.0, 0.0]
    for part in in_parts(800, 100):
        running.learn(rows[part], target[part])
    groups = pl.Series(rows[:, 1])
    whole = GroupMean.fit(groups[:800], target[:800])
    np.testing.assert_allclose(running.predict(rows[800:]), whole.predict(groups[800:]))
    new = np.array([[0.0, 4.0], [0.0, 500.0]])
    np.testing.assert_allclose(running.predict(new), [whole.overall] * 2)
    running.learn(new, np.array([1.0, 9.0]))
    np.testing.assert_allclose(running.predict(new), [1.0, 9.0])


def test_a_running_weibull_is_the_fit_to_what_was_learnt() -> None:
    rows, target = durations(2_000)
    running = RunningWeibull(1, refit_every=4, most=10_000)
    assert running.predict(rows[:2]).tolist() == [0.0, 0.0]
    for part in in_parts(2_000, 200):  # fits after the 1st, 5th and 9th
        running.learn(rows[part], target[part])
    codes = pl.Series(np.nan_to_num(rows[:, 1] + 1, nan=0.0).astype(np.int64))
    fits = {
        count: WeibullExpectation.fit(codes[:count], np.expm1(target[:count])).predict(codes)
        for count in (1_800, 2_000)
    }
    np.testing.assert_allclose(running.predict(rows), fits[1_800])
    assert not np.allclose(fits[1_800], fits[2_000])


def test_beyond_its_room_a_running_weibull_keeps_a_uniform_sample() -> None:
    rows, target = durations(40_000)
    running = RunningWeibull(1, refit_every=1, most=4_000, seed=3)
    # What comes first is shorter: a sample of the latest, or of the first, would show it.
    target[:20_000] /= 2
    for part in in_parts(40_000, 4_000):
        running.learn(rows[part], target[part])
    whole = RunningWeibull(1, refit_every=1, most=40_000)
    whole.learn(rows, target)
    some = rows[:50]
    assert running.predict(some) == pytest.approx(whole.predict(some), abs=0.12)
    assert len(running._kept) == 4_000


def test_sessions_of_one_instant_alone_have_no_distribution() -> None:
    running = RunningWeibull(1, refit_every=1, most=100)
    rows, target = durations(200)
    running.learn(rows[:20], np.zeros(20))
    assert running.predict(rows[:2]).tolist() == [0.0, 0.0]
    running.learn(rows[20:], target[20:])
    assert (running.predict(rows) > 1.0).all()
