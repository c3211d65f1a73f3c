"""Trees, trees that are fed an anomaly, and networks score alike from memory and from files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lightgbm
import numpy as np
import pytest

from feature_repo.contracts.errors import ModelError
from feature_repo.contracts.model_files import INPUTS_FILE, TREES_FILE
from feature_repo.contracts.model_inputs import ModelInput, ModelInputs
from feature_repo.scoring.network import Network
from feature_repo.scoring.scorers import NeuralScorer, Scorer, Trees
from feature_repo.scoring.version_folder import VersionFolder
from tests.feature_repo.scoring.networks import row_sums

WIDTH = 4
ROWS = np.random.default_rng(5).normal(size=(300, WIDTH))


def trees(width: int) -> lightgbm.Booster:
    rows = np.random.default_rng(6).normal(size=(500, width))
    quiet = {"objective": "regression", "verbosity": -1, "num_threads": 1}
    return lightgbm.train(quiet, lightgbm.Dataset(rows, rows[:, -1]), num_boost_round=5)


SCORERS: dict[str, Callable[[], Scorer]] = {
    "trees": lambda: Trees(trees(WIDTH)),
    "with an anomaly": lambda: Trees(trees(WIDTH + 1), Network(row_sums(WIDTH))),
    "network": lambda: NeuralScorer(Network(row_sums(WIDTH))),
}


def stored(scorer: Scorer, folder: Path) -> VersionFolder:
    at = folder if set(scorer.files()) == {TREES_FILE} else folder / "artifacts"
    at.mkdir(exist_ok=True)
    for name, content in scorer.files().items():
        (at / name).write_bytes(content)
    inputs = tuple(ModelInput("v", f"f{place}", "Float64") for place in range(WIDTH))
    (folder / INPUTS_FILE).write_bytes(ModelInputs("m", inputs).to_json())
    return VersionFolder(folder, "m version 1")


@pytest.mark.parametrize("kind", SCORERS)
def test_it_scores_the_same_from_its_files(kind: str, tmp_path: Path) -> None:
    scorer = SCORERS[kind]()
    again = stored(scorer, tmp_path).scorer()
    assert type(again) is type(scorer)
    assert (again.width, again.classes, again.exact) == (WIDTH, 1, kind == "trees")
    for rows in (ROWS, ROWS[:3], ROWS[:1]):
        scores, anomalies = scorer.score(rows)
        assert scores.shape == (len(rows),)
        np.testing.assert_array_equal(again.score(rows)[0], scores)
        assert (anomalies is None) == (kind != "with an anomaly")


def test_the_trees_are_fed_the_anomaly() -> None:
    booster, network = trees(WIDTH + 1), Network(row_sums(WIDTH))
    scores, anomalies = Trees(booster, network).score(ROWS)
    assert anomalies is not None
    np.testing.assert_allclose(anomalies, ROWS.sum(axis=1), rtol=1e-5, atol=1e-6)
    expected = booster.predict(np.column_stack([ROWS, anomalies]))
    np.testing.assert_array_equal(scores, expected)
    assert np.ptp(scores) > 0, "the trees look at their last column"


def test_parts_and_mean_add_up_to_the_score() -> None:
    scorer = Trees(trees(WIDTH + 1), Network(row_sums(WIDTH)))
    fed, parts = scorer.contributions(ROWS[:7])
    assert fed.shape == (7, WIDTH + 1)
    mean = scorer.booster.predict(fed, pred_contrib=True)[:, -1]
    np.testing.assert_allclose(parts[:, 0].sum(axis=1) + mean, scorer.score(ROWS[:7])[0])
    assert SCORERS["network"]().contributions(ROWS) is None


@pytest.mark.parametrize("flat", [True, False])
def test_a_missing_value_reaches_the_network_as_such(flat: bool) -> None:
    rows = np.array([[1.0, np.nan, 2.0]])
    assert Network(row_sums(3, flat=flat))(rows).tolist() == [3.0]


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(ModelError, match=r"an ONNX graph.*export it again"):
        Network(b"\x80\x04pickled")


def test_a_folder_without_a_scorer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="log a Booster, as text"):
        VersionFolder(tmp_path, "m version 1").scorer()
