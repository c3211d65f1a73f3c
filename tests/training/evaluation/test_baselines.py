"""Baselines."""

from __future__ import annotations

import numpy as np
import polars as pl

from training.evaluation.baselines import GroupMean


def test_group_means_come_from_training_rows_only() -> None:
    model = GroupMean.fit(pl.Series(["a", "a", "b", None]), np.array([1.0, 3.0, 10.0, 6.0]))
    assert model.predict(pl.Series(["b", "a", "unseen", None])).tolist() == [10.0, 2.0, 5.0, 6.0]


def test_a_group_column_that_is_empty_throughout_gives_the_mean() -> None:
    groups = pl.Series([None, None], dtype=pl.String)
    model = GroupMean.fit(groups, np.array([1.0, 2.0]))
    assert model.predict(groups).tolist() == [1.5, 1.5]
