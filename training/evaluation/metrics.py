"""What a model is judged by, in a form that a bootstrap can draw again and again.

Two kinds: a metric of sums (squared errors, log losses, hits) is summed once a cluster and then
costs a draw next to nothing; a metric of ranks (ROC AUC, average precision) is sorted once and
then takes the draw as weights of its rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
# From the weights of the rows, shape (n,), to the metric.
Weighted = Callable[[Floats], float]

_LEAST_CHANCE = 1e-15


class Metric(Protocol):
    """A figure of merit."""

    @property
    def name(self) -> str:
        """As in MLflow."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """Which way is better."""
        ...

    def __call__(self, target: Floats, prediction: Floats) -> float:
        """The metric of n targets; a prediction a row, (n,), or a row of chances, (n, classes)."""
        ...

    def clustered(
        self, target: Floats, prediction: Floats, clusters: npt.NDArray[np.int64], count: int
    ) -> Weighted:
        """The metric as a function of how often each of `count` clusters is drawn.

        Args:
            clusters: (n,) each row's, 0 to count - 1.
        """
        ...


@dataclass(frozen=True)
class SumMetric:
    """A metric that is a function of sums over the rows.

    Attributes:
        terms: from target and prediction to a term a row, (n,).
        finish: from the terms' mean to the metric.
    """

    name: str
    higher_is_better: bool
    terms: Callable[[Floats, Floats], Floats]
    finish: Callable[[float], float] = float

    def __call__(self, target: Floats, prediction: Floats) -> float:
        """See `Metric`."""
        return self.finish(float(np.mean(self.terms(target, prediction))))

    def clustered(
        self, target: Floats, prediction: Floats, clusters: npt.NDArray[np.int64], count: int
    ) -> Weighted:
        """See `Metric`."""
        sums = np.bincount(clusters, weights=self.terms(target, prediction), minlength=count)
        rows = np.bincount(clusters, minlength=count).astype(np.float64)
        return lambda drawn: self.finish(float(drawn @ sums) / float(drawn @ rows))


@dataclass(frozen=True)
class RankMetric:
    """A metric of how scores order the rows of an event.

    Attributes:
        curve: from (targets, weights, ends) to the metric: rows from the highest score to the
            lowest, `ends` the last place of each run of equal scores.
    """

    name: str
    curve: Callable[[Floats, Floats, npt.NDArray[np.intp]], float]
    higher_is_better: bool = True

    def __call__(self, target: Floats, prediction: Floats) -> float:
        """See `Metric`."""
        order, ends = _order(prediction)
        return self.curve(target[order], np.ones(len(target)), ends)

    def clustered(
        self, target: Floats, prediction: Floats, clusters: npt.NDArray[np.int64], count: int
    ) -> Weighted:
        """See `Metric`."""
        del count
        order, ends = _order(prediction)
        sorted_target, sorted_clusters = target[order], clusters[order]
        return lambda drawn: self.curve(sorted_target, drawn[sorted_clusters], ends)


def _order(scores: Floats) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Rows from the highest score to the lowest, and the last place of each run of equal ones."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    return order, ends


def _average_precision(target: Floats, weight: Floats, ends: npt.NDArray[np.intp]) -> float:
    hits = np.cumsum(target * weight)[ends]
    taken = np.cumsum(weight)[ends]
    if not hits[-1]:
        return float("nan")
    precision = np.divide(hits, taken, out=np.zeros_like(hits), where=taken > 0)
    return float(np.sum(np.diff(hits, prepend=0.0) * precision) / hits[-1])


def _roc_auc(target: Floats, weight: Floats, ends: npt.NDArray[np.intp]) -> float:
    hits = np.cumsum(target * weight)[ends]
    misses = np.cumsum((1.0 - target) * weight)[ends]
    if not hits[-1] or not misses[-1]:
        return float("nan")
    # Within a run of equal scores half of the pairs count: the trapezoid.
    mean_hits = (hits + np.concatenate([[0.0], hits[:-1]])) / 2
    return float(np.sum(np.diff(misses, prepend=0.0) * mean_hits) / (hits[-1] * misses[-1]))


def _log_loss_terms(target: Floats, chance: Floats) -> Floats:
    if chance.ndim == 2:
        hit = chance[np.arange(len(target)), target.astype(np.intp)]
        return np.asarray(-np.log(np.maximum(hit, _LEAST_CHANCE)))
    chance = np.clip(chance, _LEAST_CHANCE, 1 - _LEAST_CHANCE)
    return np.asarray(-(target * np.log(chance) + (1 - target) * np.log1p(-chance)))


def _deviance_terms(target: Floats, mean: Floats) -> Floats:
    # Least where the prediction is the mean, and linear in money: a square would be of the few who
    # send most. No prediction is below one unit: of nothing at all nobody can be sure.
    mean = np.maximum(mean, 1.0)
    return np.asarray(2 * (target * np.log(np.maximum(target, 1.0) / mean) - (target - mean)))


def _ranks(target: Floats, chance: Floats) -> Floats:
    """The place of the right class among the chances, from 1; a tie counts against it."""
    right = chance[np.arange(len(target)), target.astype(np.intp)]
    return np.asarray((chance >= right[:, None]).sum(axis=1), dtype=np.float64)


RMSE = SumMetric("rmse", False, lambda target, found: (target - found) ** 2, lambda mean: mean**0.5)
MEAN_ABSOLUTE_ERROR = SumMetric(
    "mean_absolute_error", False, lambda target, found: np.abs(target - found)
)
POISSON_DEVIANCE = SumMetric("poisson_deviance", False, _deviance_terms)
LOG_LOSS = SumMetric("log_loss", False, _log_loss_terms)
BRIER = SumMetric("brier", False, lambda target, chance: (target - chance) ** 2)
TOP_1 = SumMetric(
    "top_1", True, lambda target, chance: (chance.argmax(axis=1) == target).astype(np.float64)
)
MRR = SumMetric("mrr", True, lambda target, chance: 1.0 / _ranks(target, chance))
AVERAGE_PRECISION = RankMetric("average_precision", _average_precision)
ROC_AUC = RankMetric("roc_auc", _roc_auc)
