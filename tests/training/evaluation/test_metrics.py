"""Metrics against scikit-learn, and their clustered form against drawing the rows themselves."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from training.evaluation import metrics
from training.evaluation.metrics import Floats, Metric

BINARY = [
    (metrics.AVERAGE_PRECISION, reference.average_precision_score),
    (metrics.ROC_AUC, reference.roc_auc_score),
    (metrics.LOG_LOSS, reference.log_loss),
    (metrics.BRIER, reference.brier_score_loss),
]
REAL = [
    (metrics.RMSE, reference.root_mean_squared_error),
    (metrics.MEAN_ABSOLUTE_ERROR, reference.mean_absolute_error),
]


def events(seed: int, rows: int = 400) -> tuple[Floats, Floats]:
    """Targets and chances, many of them equal."""
    rng = np.random.default_rng(seed)
    chance = np.round(rng.random(rows), 1) * 0.98 + 0.01
    return (rng.random(rows) < chance).astype(float), chance


@pytest.mark.parametrize(("metric", "expected"), BINARY)
@pytest.mark.parametrize("seed", range(5))
def test_metrics_of_events_are_scikit_learns(metric: Metric, expected: object, seed: int) -> None:
    target, chance = events(seed)
    assert callable(expected)
    assert metric(target, chance) == pytest.approx(expected(target, chance), rel=1e-9)


@pytest.mark.parametrize(("metric", "expected"), REAL)
def test_metrics_of_numbers_are_scikit_learns(metric: Metric, expected: object) -> None:
    target, found = np.random.default_rng(1).normal(size=(2, 500))
    assert callable(expected)
    assert metric(target, found) == pytest.approx(expected(target, found), rel=1e-12)


def test_metrics_of_classes() -> None:
    rng = np.random.default_rng(2)
    chance = rng.dirichlet(np.ones(4), 300)
    target = rng.integers(0, 4, 300).astype(float)
    assert metrics.LOG_LOSS(target, chance) == pytest.approx(
        reference.log_loss(target, chance, labels=range(4)), rel=1e-9
    )
    assert metrics.TOP_1(target, chance) == np.mean(chance.argmax(axis=1) == target)
    places = 1 + np.argsort(np.argsort(-chance, axis=1), axis=1)[np.arange(300), target.astype(int)]
    assert metrics.MRR(target, chance) == pytest.approx(np.mean(1 / places), rel=1e-12)


def test_a_tie_counts_against_the_right_class() -> None:
    assert metrics.MRR(np.array([0.0]), np.array([[0.5, 0.5]])) == 0.5


@pytest.mark.parametrize("metric", [each for each, _ in BINARY + REAL], ids=lambda each: each.name)
def test_drawn_clusters_are_drawn_rows(metric: Metric) -> None:
    target, chance = events(3)
    rng = np.random.default_rng(4)
    clusters = rng.integers(0, 40, len(target))
    drawn = np.bincount(rng.integers(0, 40, 40), minlength=40).astype(float)
    rows = np.repeat(np.arange(len(target)), drawn[clusters].astype(int))
    found = metric.clustered(target, chance, clusters, 40)(drawn)
    assert found == pytest.approx(metric(target[rows], chance[rows]), rel=1e-9)


@pytest.mark.parametrize("metric", [metrics.AVERAGE_PRECISION, metrics.ROC_AUC])
def test_without_events_there_is_no_ranking(metric: Metric) -> None:
    assert np.isnan(metric(np.zeros(5), np.arange(5.0)))
