"""Golden rows and calibrations: what is written is what is read, and nothing else is taken."""

from __future__ import annotations

import math

import numpy as np
import pytest

from feature_repo.contracts.errors import ModelError
from feature_repo.contracts.model_files import Calibration, Golden


def test_golden_rows_come_back_to_the_last_bit() -> None:
    matrix = np.array([[0.1 + 0.2, np.nan], [-1e-300, 3.0]])
    scores = np.array([1 / 3, 2 / 3])
    golden = Golden.of(matrix, scores, scores * 2, None)
    back = Golden.from_json(golden.to_json())
    assert back == golden
    assert np.array_equal(back.matrix, matrix, equal_nan=True)
    assert (back.scores, back.probabilities) == ((1 / 3, 2 / 3), None)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"rows": [], "scores": [], "predictions": []}',
        '{"rows": [[1.0], [1.0, 2.0]], "scores": [1, 2], "predictions": [1, 2]}',
        '{"rows": [[1.0]], "scores": [1, 2], "predictions": [1]}',
        '{"rows": [[1.0]], "scores": [1], "predictions": [1], "probabilities": []}',
        '{"rows": [["a"]], "scores": [1], "predictions": [1]}',
    ],
)
def test_what_are_no_golden_rows(text: str) -> None:
    with pytest.raises(ModelError, match="register the version again"):
        Golden.from_json(text.encode())


def test_a_calibration_is_straight_between_its_points_and_level_beyond() -> None:
    curve = Calibration("isotonic", (-1.0, 0.0, 0.0, 2.0), (0.0, 0.1, 0.4, 0.9))
    found = curve.probability(np.array([-9.0, -0.5, 1.0, 9.0]))
    assert found.tolist() == [0.0, 0.05, 0.65, 0.9]
    assert Calibration.from_json(curve.to_json()) == curve


@pytest.mark.parametrize(
    ("scores", "probabilities"),
    [
        ((), ()),
        ((0.0, 1.0), (0.1,)),
        ((1.0, 0.0), (0.1, 0.2)),
        ((0.0, 1.0), (0.2, 0.1)),
        ((0.0, 1.0), (0.2, 1.1)),
        ((0.0, 1.0), (-0.1, 1.0)),
        ((0.0, math.nan), (0.1, 0.2)),
        ((0.0, 1.0), (0.1, math.nan)),
    ],
)
def test_what_is_no_calibration(
    scores: tuple[float, ...], probabilities: tuple[float, ...]
) -> None:
    with pytest.raises(ValueError, match="probabilities"):
        Calibration("isotonic", scores, probabilities)
