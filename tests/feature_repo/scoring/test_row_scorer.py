"""Scores of single rows are those of the booster."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import lightgbm
import numpy as np
import pytest

from feature_repo.scoring.row_scorer import MOST_ROWS, RowScorer


@pytest.fixture(scope="module")
def booster() -> lightgbm.Booster:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(500, 7))
    rows[rng.random(rows.shape) < 0.1] = np.nan
    target = np.nansum(rows, axis=1) > 0
    options = {"objective": "binary", "num_leaves": 7, "verbosity": -1, "num_threads": 1}
    model = lightgbm.train(options, lightgbm.Dataset(rows, target), 20)
    return lightgbm.Booster(model_str=model.model_to_string())


@pytest.mark.parametrize("count", [1, 2, MOST_ROWS, MOST_ROWS + 1, 100])
def test_scores_are_the_boosters(booster: lightgbm.Booster, count: int) -> None:
    rows = np.random.default_rng(count).normal(size=(count, 7))
    rows[:, 3] = np.nan
    np.testing.assert_array_equal(RowScorer(booster, 7)(rows), booster.predict(rows))


def test_any_layout_of_rows_is_scored_alike(booster: lightgbm.Booster) -> None:
    scorer = RowScorer(booster, 7)
    rows = np.random.default_rng(3).normal(size=(8, 14))
    for view in (rows[:, :7], rows[:, ::2], rows[::-1, 7:], np.asfortranarray(rows[:, :7])):
        np.testing.assert_array_equal(scorer(view), booster.predict(np.ascontiguousarray(view)))
    np.testing.assert_array_equal(scorer(rows[:3, :7].astype(np.float32)).shape, (3,))
    assert len(scorer(rows[:0, :7])) == 0


def test_a_matrix_of_another_width_is_refused(booster: lightgbm.Booster) -> None:
    with pytest.raises(lightgbm.basic.LightGBMError):
        RowScorer(booster, 7)(np.zeros((1, 6)))


def test_threads_do_not_mix_their_scores(booster: lightgbm.Booster) -> None:
    scorer = RowScorer(booster, 7)
    rows = np.random.default_rng(4).normal(size=(4_000, 7))
    wanted = booster.predict(rows)

    def score(first: int) -> list[float]:
        return [float(scorer(rows[at : at + 1])[0]) for at in range(first, len(rows), 4)]

    with ThreadPoolExecutor(4) as threads:
        for first, found in enumerate(threads.map(score, range(4))):
            assert found == wanted[first::4].tolist()


@pytest.mark.parametrize("count", [1, MOST_ROWS, MOST_ROWS + 1])
def test_scores_of_classes_are_the_boosters(count: int) -> None:
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(600, 7))
    target = np.digitize(rows[:, 0] + rows[:, 1], [-0.5, 0.5])
    options = {"objective": "multiclass", "num_class": 3, "verbosity": -1, "num_threads": 1}
    model = lightgbm.train(options, lightgbm.Dataset(rows, target), 10)
    found = RowScorer(model, 7, 3)(rows[:count])
    assert found.shape == (count, 3)
    np.testing.assert_array_equal(found, model.predict(rows[:count]))
