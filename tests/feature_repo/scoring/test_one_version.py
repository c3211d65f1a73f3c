"""A row with another embedding version's vector is scored as a row without a vector."""

from __future__ import annotations

import lightgbm
import msgspec
import numpy as np
import pytest

from feature_repo.contracts.embeddings import EMBEDDING_VIEW
from feature_repo.contracts.errors import ModelError
from feature_repo.contracts.model_files import ONE_VERSION_FILE
from feature_repo.contracts.model_inputs import ModelInput, ModelInputs
from feature_repo.scoring.one_version import GuardedScorer, OneVersion, guarded
from feature_repo.scoring.scorers import Trees

PLAIN = ModelInput("v", "count", "Int64")
VECTOR = ModelInput(EMBEDDING_VIEW, "embedding", "Array(Float32)", length=4)
VERSION = ModelInput(EMBEDDING_VIEW, "embedding_version", "Int64", only=3)
INPUTS = ModelInputs("m", (PLAIN, VECTOR, VERSION, ModelInput("v", "after", "Int64")))
WIDTH = 7


def row(version: float, seed: int = 0) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    made = np.random.default_rng(seed).normal(size=(1, WIDTH))
    made[0, 5] = version
    return made


@pytest.fixture(scope="module")
def trees() -> Trees:
    """Trees that lean on the vector, and on whether there is one."""
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(800, WIDTH))
    matrix[:, 5] = 3.0
    matrix[rng.random(800) < 0.3, 1:6] = np.nan
    target = np.nan_to_num(matrix[:, 1] - 2 * matrix[:, 4], nan=5.0) + matrix[:, 0]
    options = {"objective": "regression", "verbosity": -1, "num_threads": 1}
    return Trees(lightgbm.train(options, lightgbm.Dataset(matrix, target), 30))


def test_another_version_scores_as_none_and_the_own_one_as_it_is(trees: Trees) -> None:
    scorer = guarded(trees, INPUTS)
    bare = row(np.nan)
    bare[0, 1:6] = np.nan
    (without,), _ = trees.score(bare)
    own, other = row(3.0), row(4.0)
    assert scorer.score(own)[0] == trees.score(own)[0]
    assert scorer.score(own)[0] != without, "the vector tells something"
    assert trees.score(other)[0] != without
    assert scorer.score(other)[0] == without
    # A vector of which nobody says whose it is.
    assert scorer.score(row(np.nan))[0] == without
    together = np.vstack([own, other, bare, row(2.0)])
    expected = [trees.score(own)[0][0], without, without, without]
    np.testing.assert_array_equal(scorer.score(together)[0], expected)


def test_what_was_fed_is_what_is_explained_and_what_came_is_left_as_it_is(trees: Trees) -> None:
    scorer = guarded(trees, INPUTS)
    other = row(4.0)
    told = scorer.contributions(other)
    assert told is not None
    fed, parts = told
    assert np.isnan(fed[0, 1:6]).all()
    np.testing.assert_array_equal(fed[0, [0, 6]], other[0, [0, 6]])
    assert np.isfinite(other).all()
    mean = trees.booster.predict(fed, pred_contrib=True)[0, -1]
    assert parts.sum() + mean == pytest.approx(scorer.score(other)[0][0])


def test_only_inputs_that_ask_for_it_are_guarded(trees: Trees) -> None:
    assert guarded(trees, ModelInputs("m", (PLAIN,))) is trees
    scorer = guarded(trees, INPUTS)
    assert isinstance(scorer, GuardedScorer)
    assert (scorer.width, scorer.classes, scorer.exact) == (WIDTH, 1, True)
    files = scorer.files()
    assert files.pop(ONE_VERSION_FILE) == b'{"column":5,"only":3,"first":1,"last":6}'
    assert files == trees.files()


def test_which_rows_carry_another() -> None:
    guard = OneVersion.of(INPUTS)
    assert guard is not None
    rows = np.vstack([row(3.0), row(4.0), row(np.nan)])
    assert guard.others(rows).tolist() == [False, True, False]
    own = row(3.0)
    assert guard.fed(own) is own, "nothing is copied for nothing"


def test_inputs_that_cannot_be_guarded_are_refused() -> None:
    apart = ModelInputs("m", (VECTOR, PLAIN, VERSION))
    with pytest.raises(ModelError, match="side by side"):
        OneVersion.of(apart)
    twice = msgspec.structs.replace(VECTOR, only=3)
    with pytest.raises(ModelError, match="one version at most"):
        OneVersion.of(ModelInputs("m", (twice, VERSION)))


def test_the_inputs_say_which_version_and_the_fingerprint_does_not() -> None:
    again = ModelInputs.from_json(INPUTS.to_json())
    assert again == INPUTS
    assert again.embedding_version == 3
    another = msgspec.structs.replace(VERSION, only=4)
    other = msgspec.structs.replace(INPUTS, inputs=(PLAIN, VECTOR, another, INPUTS.inputs[3]))
    assert other != INPUTS
    assert other.fingerprint == INPUTS.fingerprint
    assert INPUTS.without({EMBEDDING_VIEW}).names == ("count", "after")
    assert INPUTS.without({EMBEDDING_VIEW}).embedding_version is None
