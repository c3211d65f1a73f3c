from __future__ import annotations

import numpy as np
import pytest

from training.evaluation.bootstrap import Interval, interval, paired_interval
from training.evaluation.metrics import BRIER, RMSE, ROC_AUC


def test_the_better_side_is_surely_better() -> None:
    rng = np.random.default_rng(1)
    target = rng.normal(size=3_000)
    near, far = target + rng.normal(0, 0.5, 3_000), target + rng.normal(0, 0.7, 3_000)
    clusters = rng.integers(0, 500, 3_000)
    found = paired_interval(RMSE, target, near, far, clusters)
    assert found.below_zero
    assert found.low < RMSE(target, near) - RMSE(target, far) < found.high
    again = paired_interval(RMSE, target, near, far, clusters)
    assert again == found
    turned = paired_interval(RMSE, target, far, near, clusters)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_equal_sides_do_not_differ() -> None:
    rng = np.random.default_rng(2)
    target = (rng.random(1_000) < 0.2).astype(float)
    score = rng.random(1_000)
    assert paired_interval(ROC_AUC, target, score, score, np.arange(1_000)) == Interval(0.0, 0.0)


def test_rows_of_one_customer_are_no_independent_evidence() -> None:
    rng = np.random.default_rng(3)
    chance = np.repeat(rng.random(50), 40)
    target = np.repeat((rng.random(50) < 0.5).astype(float), 40)
    together = interval(BRIER, target, chance, np.repeat(np.arange(50), 40))
    apart = interval(BRIER, target, chance, np.arange(2_000))
    assert together.high - together.low > 4 * (apart.high - apart.low)


def test_it_covers_what_it_claims() -> None:
    # Differences of zero-mean errors: the true difference of the RMSEs is known.
    covered = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        target = np.zeros(400)
        ours, theirs = rng.normal(0, 1.0, 400), rng.normal(0, 1.1, 400)
        found = paired_interval(RMSE, target, ours, theirs, np.arange(400), resamples=200)
        covered += found.low <= -0.1 <= found.high
    assert covered >= 87  # 95 expected; fewer than 87 has a chance of 1 in 1,000


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
        differences.append(RMSE(target[rows], ours[rows]) - RMSE(target[rows], theirs[rows]))
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
    interval = paired_interval(RMSE, target, ours, theirs, owner, resamples=600, seed=5)
    assert (interval.low, interval.high) == pytest.approx(
        slow_interval(target, ours, theirs, owner), abs=0.004
    )
    assert interval.below_zero
