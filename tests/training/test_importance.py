"""Three ways of telling which inputs matter, on models whose inputs are known to."""

from __future__ import annotations

import lightgbm as lgb
import numpy as np
import polars as pl
import pytest

from training.evaluation.metrics import LOG_LOSS, RMSE, ROC_AUC, Metric
from training.importance import importance, importance_picture, permutation_importance

ROWS = 4_000
RNG = np.random.default_rng(1)
MATRIX = RNG.normal(size=(ROWS, 4))


def trained(target: np.ndarray, **options: object) -> lgb.Booster:
    options = {"verbosity": -1, "num_threads": 1, "deterministic": True, "seed": 1} | options
    return lgb.train(options, lgb.Dataset(MATRIX, target), 40)


def table(booster: lgb.Booster, target: np.ndarray, metric: Metric) -> pl.DataFrame:
    return importance(
        booster, MATRIX, target, metric, lambda rows: np.asarray(booster.predict(rows))
    )


def test_what_drives_the_target_leads_all_three() -> None:
    target = 3 * MATRIX[:, 2] + MATRIX[:, 0] + RNG.normal(size=ROWS) * 0.1
    found = table(trained(target, objective="regression"), target, RMSE)
    for column in ("gain", "permutation", "shap"):
        order = found.sort(column, descending=True)["feature"].to_list()
        assert order[:2] == ["Column_2", "Column_0"], column
    by_name = {row["feature"]: row for row in found.to_dicts()}
    assert by_name["Column_1"]["permutation"] == pytest.approx(0.0, abs=0.02)
    # The mean absolute value of 3x, of a standard normal x.
    assert by_name["Column_2"]["shap"] == pytest.approx(3 * np.sqrt(2 / np.pi), rel=0.1)


def test_worse_is_positive_also_where_higher_is_better() -> None:
    target = (MATRIX[:, 1] > 0).astype(float)
    found = table(trained(target, objective="binary"), target, ROC_AUC)
    assert found["feature"][0] == "Column_1"
    assert found["permutation"][0] > 0.3


def test_an_unused_input_costs_nothing() -> None:
    target = (MATRIX[:, 1] > 0).astype(float)
    found = table(trained(target, objective="binary", num_leaves=2), target, LOG_LOSS)
    unused = found.filter(pl.col("splits") == 0)
    assert unused.height == 3
    assert unused["permutation"].to_list() == unused["shap"].to_list() == [0.0] * 3


def test_classes_are_added_up() -> None:
    target = np.digitize(MATRIX[:, 3], [-0.5, 0.5]).astype(float)
    found = table(trained(target, objective="multiclass", num_class=3), target, LOG_LOSS)
    assert found.height == 4
    assert found["feature"][0] == "Column_3"


def test_the_same_table_and_picture_twice() -> None:
    target = MATRIX[:, 0]
    booster = trained(target, objective="regression")
    one, two = table(booster, target, RMSE), table(booster, target, RMSE)
    assert one.equals(two)
    picture = importance_picture(one, "title")
    assert picture.startswith(b"\x89PNG")
    assert picture == importance_picture(two, "title")


def test_a_model_that_is_no_trees_is_told_by_what_it_misses() -> None:
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(4_000, 3))
    matrix[::7, 2] = np.nan

    def scores(rows: np.ndarray) -> np.ndarray:
        return np.asarray(3 * rows[:, 1] + rows[:, 0])

    before = matrix.copy()
    found = permutation_importance(
        ["some", "most", "none"], matrix, scores(matrix), RMSE, scores, seed=1
    )
    assert found["feature"].to_list() == ["most", "some", "none"]
    # Shuffled, an input of weight w and variance 1 costs w times the root of 2.
    assert found["permutation"].to_list() == pytest.approx([3 * 2**0.5, 2**0.5, 0.0], abs=0.1)
    assert found["share"].to_list() == pytest.approx([0.75, 0.25, 0.0], abs=0.02)
    np.testing.assert_array_equal(matrix, before)
    assert importance_picture(found.drop("share"), "title").startswith(b"\x89PNG")
