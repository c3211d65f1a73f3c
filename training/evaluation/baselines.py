"""What a model has to beat before anybody believes in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from training.evaluation.metrics import Floats
from training.survival.samples import Samples
from training.survival.shrinkage import shrink
from training.survival.weibull import expected_log1p, fit_weibull


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
class WeibullExpectation:
    """The baseline that expects what a group's Weibull distribution of durations does.

    Attributes:
        expected: group -> mean of log(1 + seconds): sessions of a single instant are 0, the others
            are fitted; groups of few sessions lean on all.
        overall: of all, for groups that were not seen.
    """

    expected: pl.DataFrame
    overall: float

    @classmethod
    def fit(cls, groups: pl.Series, duration_s: Floats) -> WeibullExpectation:
        """Learn from training rows; a missing (null) group is a group of its own."""
        names = groups.unique().sort()
        codes = pl.DataFrame({"group": names}).with_row_index("code")
        code = (
            groups.to_frame("group")
            .join(codes, on="group", how="left", nulls_equal=True, maintain_order="left")["code"]
            .to_numpy()
            .astype(np.int64)
        )
        lasting = duration_s > 0
        samples = Samples.of(
            duration_s[lasting], np.ones(int(lasting.sum()), np.bool_), code[lasting], len(names)
        )
        everyone = np.zeros(len(names), np.int64)
        in_all = fit_weibull(samples.grouped(everyone, 1))
        fitted = shrink(fit_weibull(samples), samples.ends, in_all, everyone).weibull
        share = np.bincount(code, weights=lasting) / np.bincount(code)
        return cls(
            pl.DataFrame({"group": names, "expected": share * expected_log1p(fitted)}),
            float(lasting.mean() * expected_log1p(in_all)[0]),
        )

    def predict(self, groups: pl.Series) -> Floats:
        """The expectation of each row's group: shape (rows,), on the scale log(1 + seconds)."""
        return (
            pl.DataFrame({"group": groups.cast(self.expected.schema["group"])})
            .join(self.expected, on="group", how="left", nulls_equal=True, maintain_order="left")[
                "expected"
            ]
            .fill_null(self.overall)
            .to_numpy()
        )
