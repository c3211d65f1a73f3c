"""How sure a difference is: intervals from drawing whole customers again.

One customer's rows resemble each other: drawing rows singly would claim more certainty than there
is. Both sides are judged on the same draw, so what is hard for both cancels out.
Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.evaluation.metrics import Floats, Metric, Weighted

Clusters = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float

    @property
    def below_zero(self) -> bool:
        """Whether all of it lies below zero."""
        return self.high < 0.0

    @property
    def above_zero(self) -> bool:
        """Whether all of it lies above zero."""
        return self.low > 0.0

    def __str__(self) -> str:
        return f"[{self.low:+.4f}, {self.high:+.4f}]"


def paired_interval(
    metric: Metric,
    target: Floats,
    ours: Floats,
    theirs: Floats,
    clusters: Clusters,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Interval of metric(ours) - metric(theirs), by percentiles of paired draws of clusters.

    Args:
        target: (n,).
        ours, theirs: predictions, (n,) or (n, classes).
        clusters: (n,) whole numbers; equal ones are drawn together.
        resamples: draws. Those on which the metric is undefined (no event drawn) are left out.
        seed: of the draws; equal inputs and seed give an equal interval.
        level: mass of the interval.

    Trap: with few clusters that hold events, percentiles are too narrow; say how many there are.
    """
    numbers, count = _numbered(clusters)
    sides = [metric.clustered(target, side, numbers, count) for side in (ours, theirs)]
    return drawn_interval(
        lambda drawn: sides[0](drawn) - sides[1](drawn),
        count,
        resamples=resamples,
        seed=seed,
        level=level,
    )


def interval(
    metric: Metric,
    target: Floats,
    prediction: Floats,
    clusters: Clusters,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Interval of a metric itself; arguments as of `paired_interval`."""
    numbers, count = _numbered(clusters)
    side = metric.clustered(target, prediction, numbers, count)
    return drawn_interval(side, count, resamples=resamples, seed=seed, level=level)


def drawn_interval(
    statistic: Weighted, count: int, *, resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Interval of a statistic of `count` clusters, from how often each is drawn: (count,).

    For who keeps sums by cluster and no rows; equal draws for equal `count` and seed.
    """
    rng = np.random.default_rng(seed)
    found = np.array(
        [
            statistic(np.bincount(rng.integers(0, count, count), minlength=count).astype(float))
            for _ in range(resamples)
        ]
    )
    tail = (1.0 - level) / 2.0
    low, high = np.nanquantile(found, [tail, 1.0 - tail])
    return Interval(float(low), float(high))


def _numbered(clusters: Clusters) -> tuple[Clusters, int]:
    names, numbers = np.unique(clusters, return_inverse=True)
    return numbers.astype(np.int64), len(names)
