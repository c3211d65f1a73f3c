"""What a model has to beat before anybody believes in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from training.evaluation.metrics import Floats


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
