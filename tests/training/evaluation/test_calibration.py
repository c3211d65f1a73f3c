from __future__ import annotations

import numpy as np
import pytest

from feature_repo.contracts.errors import DatasetError
from training.evaluation.calibration import (
    METHODS,
    Method,
    expected_calibration_error,
    fit_calibration,
    measured_calibration,
    reliability,
    reliability_picture,
)


@pytest.mark.parametrize("method", ["isotonic", "sigmoid"])
def test_calibrated_probabilities_can_be_taken_at_their_word(method: Method) -> None:
    rng = np.random.default_rng(1)
    score = rng.normal(size=40_000)
    target = (rng.random(40_000) < 1 / (1 + np.exp(3 - 2 * score))).astype(float)
    curve = fit_calibration(score[:20_000], target[:20_000], method)
    chance = curve.probability(score[20_000:])
    raw = 1 / (1 + np.exp(-score[20_000:]))
    assert expected_calibration_error(target[20_000:], chance) < 0.01
    assert expected_calibration_error(target[20_000:], raw) > 0.1
    assert np.all(np.diff(chance[np.argsort(score[20_000:])]) >= 0)


def test_scores_the_wrong_way_round_say_nothing() -> None:
    score = np.linspace(0, 1, 100)
    curve = fit_calibration(score, (score < 0.3).astype(float), "sigmoid")
    assert curve.probability(np.array([0.0, 1.0])).tolist() == pytest.approx([0.3, 0.3])


def test_one_class_is_refused() -> None:
    with pytest.raises(DatasetError, match="0 events in 5 rows"):
        fit_calibration(np.arange(5.0), np.zeros(5))


def test_reliability_counts_every_row_once() -> None:
    rng = np.random.default_rng(2)
    chance = np.round(rng.random(1_000), 1)
    target = (rng.random(1_000) < chance).astype(float)
    table = reliability(target, chance)
    assert table["rows"].sum() == 1_000
    assert table["predicted"].is_sorted()
    assert (table["predicted"] * table["rows"]).sum() == pytest.approx(chance.sum())
    assert (table["observed"] * table["rows"]).sum() == pytest.approx(target.sum())
    assert reliability_picture(table, "calls").startswith(b"\x89PNG")


def test_the_error_of_one_constant_is_its_distance() -> None:
    target = np.array([1.0, 0.0, 0.0, 0.0])
    assert expected_calibration_error(target, np.full(4, 0.5)) == pytest.approx(0.25)
    assert reliability(target, np.full(4, 0.5)).rows() == [(0.5, 0.25, 4)]


def test_chances_that_are_right_already_stay_as_they_are() -> None:
    rng = np.random.default_rng(3)
    chance = 1 / (1 + np.exp(4 - 1.5 * rng.normal(size=60_000)))
    target = (rng.random(60_000) < chance).astype(float)
    curve = fit_calibration(chance, target, "log_odds")
    assert np.abs(curve.probability(chance) - chance).max() < 0.05
    assert np.abs(curve.probability(chance) - chance).mean() < 0.002


@pytest.mark.parametrize("method", METHODS)
def test_no_event_so_far_is_no_proof_of_none(method: Method) -> None:
    score = np.linspace(0.01, 0.99, 200)
    chance = fit_calibration(score, (score > 0.7).astype(float), method).probability(score)
    assert chance.min() > 0.0
    assert chance.max() < 1.0


def test_the_method_is_chosen_by_measurement() -> None:
    rng = np.random.default_rng(4)
    clusters = rng.integers(0, 2_000, 40_000)
    chance = 1 / (1 + np.exp(3 - 1.5 * rng.normal(size=40_000)))
    target = (rng.random(40_000) < chance).astype(float)
    # Chances that are off by a constant factor of their odds; a sigmoid of the chance does not fit.
    curve, table = measured_calibration(chance**2, target, clusters)
    assert table["method"].to_list() == list(METHODS)
    assert curve.method == table.sort("log_loss")["method"][0]
    assert curve.method != "sigmoid"
    assert expected_calibration_error(target, curve.probability(chance**2)) < 0.01
    # Steps of an isotonic curve are no sigmoid's.
    odd = (rng.random(40_000) < np.where(chance > 0.2, 0.6, 0.02)).astype(float)
    assert measured_calibration(chance, odd, clusters)[0].method == "isotonic"
