"""Errors, baselines and intervals."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from training.evaluate import GroupMean, rmse, rmse_difference_interval


def test_group_means_come_from_training_rows_only() -> None:
    model = GroupMean.fit(pl.Series(["a", "a", "b", None]), np.array([1.0, 3.0, 10.0, 6.0]))
    assert model.predict(pl.Series(["b", "a", "unseen", None])).tolist() == [10.0, 2.0, 5.0, 6.0]


def test_a_group_column_that_is_empty_throughout_gives_the_mean() -> None:
    groups = pl.Series([None, None], dtype=pl.String)
    model = GroupMean.fit(groups, np.array([1.0, 2.0]))
    assert model.predict(groups).tolist() == [1.5, 1.5]


def slow_interval(
    target: np.ndarray, ours: np.ndarray, theirs: np.ndarray, clusters: np.ndarray
) -> tuple[float, float]:
    """The same, with loops: draw customers, lay their sessions side by side, take both errors."""
    rng = np.random.default_rng(5)
    rows_of = [np.flatnonzero(clusters == cluster) for cluster in np.unique(clusters)]
    differences = []
    for _ in range(600):
        draw = rng.integers(0, len(rows_of), len(rows_of))
        rows = np.concatenate([rows_of[cluster] for cluster in draw])
        differences.append(rmse(target[rows], ours[rows]) - rmse(target[rows], theirs[rows]))
    low, high = np.quantile(differences, [0.025, 0.975])
    return float(low), float(high)


@pytest.mark.parametrize("clusters", [1, 8], ids=["singly", "by customer"])
def test_the_interval_is_that_of_a_slow_bootstrap(clusters: int) -> None:
    rng = np.random.default_rng(0)
    count = 800
    owner = np.arange(count) // clusters
    shared = rng.normal(0, 1, count)[owner]
    target = shared + rng.normal(0, 1, count)
    ours, theirs = shared * 0.3, np.zeros(count)
    interval = rmse_difference_interval(target, ours, theirs, clusters=owner, resamples=600, seed=5)
    assert (interval.low, interval.high) == pytest.approx(
        slow_interval(target, ours, theirs, owner), abs=0.004
    )
    assert interval.below_zero


def test_the_interval_repeats_and_does_not_depend_on_batching(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(1)
    target, ours, theirs = rng.normal(size=(3, 500))
    clusters = rng.integers(0, 900, 500)  # some numbers carry no row

    def interval() -> object:
        return rmse_difference_interval(target, ours, theirs, clusters=clusters, resamples=200)

    whole = interval()
    assert whole == interval()
    monkeypatch.setattr("training.evaluate._DRAWS_AT_ONCE", 1_000)
    assert whole == interval()


def test_equal_models_are_not_better() -> None:
    rng = np.random.default_rng(2)
    target = rng.normal(size=2_000)
    ours, theirs = rng.normal(size=(2, 2_000)) * 0.1
    interval = rmse_difference_interval(target, ours, theirs, clusters=np.arange(2_000))
    assert not interval.below_zero
    assert interval.low < 0 < interval.high
