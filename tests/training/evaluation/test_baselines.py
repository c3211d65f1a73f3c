"""Baselines."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from training.evaluation.baselines import GroupMean, WeibullExpectation


def test_group_means_come_from_training_rows_only() -> None:
    model = GroupMean.fit(pl.Series(["a", "a", "b", None]), np.array([1.0, 3.0, 10.0, 6.0]))
    assert model.predict(pl.Series(["b", "a", "unseen", None])).tolist() == [10.0, 2.0, 5.0, 6.0]


def test_a_group_column_that_is_empty_throughout_gives_the_mean() -> None:
    groups = pl.Series([None, None], dtype=pl.String)
    model = GroupMean.fit(groups, np.array([1.0, 2.0]))
    assert model.predict(groups).tolist() == [1.5, 1.5]


def test_a_weibull_expects_what_its_draws_average() -> None:
    rng = np.random.default_rng(1)
    groups = pl.Series(rng.choice(["a", "b"], 40_000))
    scale = np.where(groups.to_numpy() == "a", 50.0, 400.0)
    duration_s = scale * rng.weibull(0.8, 40_000) * (rng.random(40_000) >= 0.2)
    model = WeibullExpectation.fit(groups, duration_s)
    means = GroupMean.fit(groups, np.log1p(duration_s))
    asked = pl.Series(["b", "a", "unseen"])
    assert model.predict(asked) == pytest.approx(means.predict(asked), abs=0.02)


def test_a_small_group_leans_on_all() -> None:
    rng = np.random.default_rng(2)
    groups = pl.Series([f"large {n % 20}" for n in range(20_000)] + ["small"] * 5)
    duration_s = np.concatenate([100 * rng.weibull(0.8, 20_000), [2.0, 3.0, 1.0, 9.0, 4.0]])
    model = WeibullExpectation.fit(groups, duration_s)
    large, small = model.predict(pl.Series(["large 7", "small"]))
    own = np.log1p(duration_s[-5:]).mean()
    assert own < 1.7
    assert large == pytest.approx(3.9, abs=0.2)
    assert abs(small - large) < 0.5 * abs(small - own)
