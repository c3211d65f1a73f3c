"""The model of calls within a day, from offline store to registered version."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import lightgbm as lgb
import mlflow
import numpy as np
import polars as pl
import pytest

from feature_repo.contracts.errors import DatasetError, ModelError
from feature_repo.contracts.model_files import CALIBRATION_FILE, GOLDEN_FILE, Calibration, Golden
from feature_repo.contracts.settings import Settings
from tests.training.simulated import FIRST_DAY
from training.call_within_day import NAME, TARGET, Config, build, train
from training.champion import load_champion
from training.configuration import load_config
from training.judging import Trained, judge
from training.registry import tags_of
from training.retraining import retrain

CHANGES = {"max_rounds": 120, "num_leaves": 7, "bootstrap_resamples": 200}
QUICK = load_config(Config, NAME, CHANGES)
pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.xdist_group("training"),  # the stores and the model are made once
]


@pytest.fixture(scope="module")
def trained(small_world: Settings) -> Trained:
    return train(build(small_world), QUICK)


def versions(settings: Settings) -> int:
    return len(mlflow.MlflowClient(settings.mlflow_url).search_model_versions(f"name = '{NAME}'"))


def test_it_beats_the_rate_of_the_corridor(trained: Trained) -> None:
    assert trained.beats_baseline, trained.verdict
    assert trained.against_baseline.interval.high < 0
    metrics = trained.candidate.metrics
    assert metrics["roc_auc"] > 0.6
    assert metrics["average_precision_low"] > metrics["prevalence"]
    assert trained.baseline == "rate per session_corridor_last"


def test_its_probabilities_can_be_taken_at_their_word(trained: Trained) -> None:
    candidate = trained.candidate
    assert candidate.metrics["expected_calibration_error"] <= 0.02
    assert candidate.calibration is not None
    assert candidate.calibration.method == candidate.params["calibration"]
    reliability = candidate.tables["reliability"]
    assert reliability["rows"].sum() == trained.counts["test"]
    assert set(candidate.tables["calibration_methods"]["method"]) == {
        "isotonic",
        "sigmoid",
        "log_odds",
    }
    assert candidate.pictures["reliability.png"].startswith(b"\x89PNG")


def test_the_same_result_twice(small_world: Settings, trained: Trained) -> None:
    again = train(build(small_world), QUICK)
    ours, theirs = again.candidate, trained.candidate
    assert ours.scorer.files() == theirs.scorer.files()
    assert ours.data_fingerprint == theirs.data_fingerprint
    assert ours.calibration == theirs.calibration
    assert again.against_baseline == trained.against_baseline
    assert ours.pictures == theirs.pictures


def test_nothing_of_its_training_part_was_unknown_when_the_next_began(trained: Trained) -> None:
    frame = trained.held_out.frame
    start = frame["event_timestamp"][0]
    assert QUICK.gap >= QUICK.label_delay
    assert str(trained.candidate.params["test_start"]) == start.isoformat()
    assert trained.counts["examples"] > sum(
        trained.counts[part] for part in ("train", "validation", "test")
    )
    assert trained.counts["open"] > 0


def test_one_window_makes_one_version_that_serves(
    small_world: Settings, trained: Trained, tmp_path: Path
) -> None:
    settings = tracked_at(small_world, tmp_path)
    done = retrain(settings, NAME, changes=CHANGES)
    assert retrain(settings, NAME, changes=CHANGES).version == done.version
    tags = tags_of(settings, NAME, done.version)
    assert (tags["target"], tags["unit"], tags["decision"]) == (NAME, "probability", "promoted")

    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{NAME}/{done.version}"))
    curve = Calibration.from_json((folder / CALIBRATION_FILE).read_bytes())
    golden = Golden.from_json((folder / GOLDEN_FILE).read_bytes())
    scores = lgb.Booster(model_file=folder / "model.lgb").predict(golden.matrix)
    assert golden.probabilities == tuple(curve.probability(np.asarray(scores)).tolist())

    mlflow.MlflowClient(settings.mlflow_url).set_registered_model_alias(
        NAME, "champion", str(done.version)
    )
    champion = load_champion(settings, NAME)
    assert champion is not None
    decision = judge(trained, champion)
    assert decision.promote
    assert decision.ours == pytest.approx(decision.theirs)


def tracked_at(settings: Settings, folder: Path) -> Settings:
    """The same stores, with a registry of their own."""
    tracked = replace(settings, mlflow_url=f"sqlite:///{folder}/mlflow.db")
    mlflow.MlflowClient(tracked.mlflow_url).create_experiment(
        NAME, artifact_location=str(folder / "artifacts")
    )
    return tracked


def test_what_cannot_be_trained_on_is_named_and_nothing_registered(
    small_world: Settings, remittance: Settings, tmp_path: Path
) -> None:
    settings = tracked_at(small_world, tmp_path)
    with pytest.raises(DatasetError, match="at least one login event"):
        retrain(settings, NAME, end=FIRST_DAY - timedelta(days=3))
    with pytest.raises(DatasetError, match="a label of a login event"):
        retrain(settings, NAME, end=FIRST_DAY + timedelta(hours=20))
    with pytest.raises(DatasetError, match="at least 500 logins with a label, it has"):
        retrain(settings, NAME, end=FIRST_DAY + timedelta(hours=32))
    with pytest.raises(DatasetError, match="at least one login event"):
        build(remittance)  # a world without logins and labels
    with pytest.raises(DatasetError, match="such as session_corridor_last"):
        retrain(settings, NAME, changes={"baseline_group": "colour"})
    with pytest.raises(ModelError, match="label_delay"):
        retrain(settings, NAME, changes={"label_delay": "a day"})
    assert versions(settings) == 0


def test_one_class_only_and_a_missing_column(small_world: Settings) -> None:
    examples = build(small_world)
    dataset = examples.dataset
    quiet = replace(dataset, frame=dataset.frame.with_columns(pl.lit(0.0).alias(TARGET)))
    with pytest.raises(DatasetError, match=r"train part is '0 of .* examples have a call'"):
        train(replace(examples, dataset=quiet), QUICK)
    bare = replace(dataset, frame=dataset.frame.drop("payment_failed_count_24h"))
    with pytest.raises(ModelError, match="payment_failed_count_24h"):
        train(replace(examples, dataset=bare), QUICK)
