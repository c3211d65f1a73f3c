"""Judging a regression: its error, a baseline's, and how sure we are of the difference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

Floats = npt.NDArray[np.float64]

# Random places drawn at once: 4 million int64 are 32 MB.
_DRAWS_AT_ONCE = 4_000_000


def rmse(target: Floats, prediction: Floats) -> float:
    """Root mean squared error, in the target's unit.

    >>> rmse(np.array([0.0, 0.0]), np.array([3.0, 4.0]))
    3.5355339059327378
    """
    return float(np.sqrt(np.mean((target - prediction) ** 2)))


@dataclass(frozen=True)
class GroupMean:
    """The baseline that predicts a group's mean; an unseen group gets the mean of all.

    Trap: fit it on training rows only, like any model; a mean that has seen the test rows is
    unfairly good where groups are small.
    """

    means: pl.DataFrame
    overall: float

    @classmethod
    def fit(cls, groups: pl.Series, target: Floats) -> GroupMean:
        """Learn the means; a missing (null) group is a group of its own."""
        names = groups.unique().sort()
        codes = names.to_frame("group").with_row_index("code")
        rows = (
            groups.to_frame("group")
            .join(codes, on="group", how="left", nulls_equal=True, maintain_order="left")["code"]
            .to_numpy()
        )
        # Summed in row order: a parallel mean differs in its last bits from run to run.
        means = np.bincount(rows, weights=target) / np.bincount(rows)
        return cls(pl.DataFrame({"group": names, "mean": means}), float(target.mean()))

    def predict(self, groups: pl.Series) -> Floats:
        """The mean of each row's group: shape (rows,)."""
        return (
            pl.DataFrame({"group": groups.cast(self.means.schema["group"])})
            .join(self.means, on="group", how="left", nulls_equal=True, maintain_order="left")[
                "mean"
            ]
            .fill_null(self.overall)
            .to_numpy()
        )


@dataclass(frozen=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float

    @property
    def below_zero(self) -> bool:
        """Whether all of it lies below zero."""
        return self.high < 0.0


def rmse_difference_interval(
    target: Floats,
    prediction: Floats,
    reference: Floats,
    *,
    clusters: npt.NDArray[np.int64],
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Paired bootstrap interval of rmse(prediction) - rmse(reference).

    Whole clusters (customers) are drawn, with replacement, and both errors are taken on the same
    draw. One customer's sessions resemble each other: drawing sessions singly would claim more
    certainty than there is.

    Args:
        target, prediction, reference: shape (n,), one unit.
        clusters: shape (n,), whole numbers from 0; equal numbers are drawn together.
        resamples: bootstrap draws.
        seed: of the draws; equal inputs and seed give an equal interval.
        level: mass of the interval, by percentiles.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13.
    """
    sums = np.stack(
        [
            np.bincount(clusters, weights=(target - prediction) ** 2),
            np.bincount(clusters, weights=(target - reference) ** 2),
            np.bincount(clusters).astype(np.float64),
        ],
        axis=1,
    )
    sums = sums[sums[:, 2] > 0]  # numbers that no row carries
    count = len(sums)
    rng = np.random.default_rng(seed)
    at_once = max(1, _DRAWS_AT_ONCE // count)
    differences = []
    for done in range(0, resamples, at_once):
        draw = rng.integers(0, count, (min(at_once, resamples - done), count))
        ours, theirs, rows = sums[draw].sum(axis=1).T
        differences.append(np.sqrt(ours / rows) - np.sqrt(theirs / rows))
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(np.concatenate(differences), [tail, 1.0 - tail])
    return Interval(float(low), float(high))
