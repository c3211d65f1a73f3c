"""The model of what the next session is for, from offline store to registered version."""

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
from feature_repo.contracts.model_files import ANSWER_FILE, Answer, Golden
from feature_repo.contracts.settings import Settings
from tests.training.simulated import FIRST_DAY
from training.champion import load_champion
from training.configuration import load_config
from training.intents import INTENTS
from training.judging import Trained, judge
from training.next_intent import NAME, TARGET, Config, build, markov, persistence, train
from training.retraining import retrain

DAY = timedelta(days=1)
CHANGES = {
    "within": "P3D",
    "gap": "P3DT3H",
    "min_data_in_leaf": 50,
    "num_leaves": 7,
    "max_rounds": 120,
    "validation_share": 0.25,
    "bootstrap_resamples": 200,
}
QUICK = load_config(Config, NAME, CHANGES)
pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.xdist_group("training"),  # the stores and the model are made once
]


@pytest.fixture(scope="module")
def trained(long_world: Settings) -> Trained:
    return train(build(long_world, config=QUICK), QUICK)


def test_it_beats_persistence_and_markov(trained: Trained) -> None:
    metrics = trained.candidate.metrics
    assert trained.beats_baseline, trained.verdict
    assert trained.baseline == "first-order Markov", "the stronger of both"
    assert metrics["markov_log_loss"] < metrics["persistence_log_loss"]
    for baseline in ("markov", "persistence"):
        assert metrics[f"{baseline}_log_loss_difference_high"] < 0
    assert metrics["mrr"] > metrics["persistence_mrr"]
    assert metrics["top_1"] > 0.35


def test_baselines_are_chances() -> None:
    rng = np.random.default_rng(1)
    current = rng.integers(0, len(INTENTS), 5_000).astype(float)
    following = np.where(rng.random(5_000) < 0.6, current, (current + 1) % len(INTENTS))
    for table in (persistence(current, following), markov(current, following)):
        assert table.sum(axis=1) == pytest.approx(np.ones(len(INTENTS)))
        assert np.diag(table) == pytest.approx(np.full(len(INTENTS), 0.6), abs=0.06)
    learnt = markov(current, following)
    assert learnt[0, 1] == pytest.approx(0.4, abs=0.06)
    assert persistence(current, following)[0, 1] < 0.15, "it does not know what follows what"


def test_the_next_session_had_begun_and_ended_in_time(long_world: Settings) -> None:
    end = FIRST_DAY + 30 * DAY
    examples = build(long_world, end=end, config=QUICK)
    frame = examples.dataset.frame
    assert frame["label_timestamp"].max() <= end  # type: ignore[operator]
    assert (frame["label_timestamp"] - frame["event_timestamp"] <= QUICK.gap).all()
    assert (frame["event_timestamp"] + QUICK.gap <= end).all()
    assert examples.counts["open"] > 0
    assert examples.counts["not_back"] > 0
    # Who came back after the window's end is no example, whatever came then.
    later = build(long_world, end=end + 5 * DAY, config=QUICK).dataset.frame
    both = frame.join(later, on=["customer_id", "event_timestamp"], how="inner", suffix="_later")
    assert both.height == frame.height
    assert (both[TARGET] == both[f"{TARGET}_later"]).all()


def test_the_same_result_twice(long_world: Settings, trained: Trained) -> None:
    again = train(build(long_world, config=QUICK), QUICK)
    ours, theirs = again.candidate, trained.candidate
    assert ours.scorer.files() == theirs.scorer.files()
    assert ours.data_fingerprint == theirs.data_fingerprint
    assert again.against_baseline == trained.against_baseline


def tracked_at(settings: Settings, folder: Path) -> Settings:
    """The same stores, with a registry of their own."""
    tracked = replace(settings, mlflow_url=f"sqlite:///{folder}/mlflow.db")
    mlflow.MlflowClient(tracked.mlflow_url).create_experiment(
        NAME, artifact_location=str(folder / "artifacts")
    )
    return tracked


def test_a_version_has_its_classes(long_world: Settings, trained: Trained, tmp_path: Path) -> None:
    settings = tracked_at(long_world, tmp_path)
    done = retrain(settings, NAME, changes=CHANGES)
    assert retrain(settings, NAME, changes=CHANGES).version == done.version
    uri = f"models:/{NAME}/{done.version}"
    folder = Path(mlflow.artifacts.download_artifacts(uri))
    assert Answer.from_json((folder / ANSWER_FILE).read_bytes()).classes == INTENTS
    golden = Golden.from_json((folder / "golden.json").read_bytes())
    chances = lgb.Booster(model_file=folder / "model.lgb").predict(golden.matrix)
    assert np.asarray(golden.classes).tolist() == np.asarray(chances).tolist()
    assert golden.scores == tuple(np.asarray(chances).max(axis=1).tolist())
    plain = mlflow.pyfunc.load_model(uri)
    names = list(trained.candidate.inputs.columns)
    frame = pl.DataFrame(golden.matrix, names).to_pandas()
    assert np.asarray(plain.predict(frame)).shape == (len(golden.rows), len(INTENTS))

    client = mlflow.MlflowClient(settings.mlflow_url)
    client.set_registered_model_alias(NAME, "champion", str(done.version))
    champion = load_champion(settings, NAME)
    assert champion is not None
    decision = judge(trained, champion)
    assert decision.promote
    assert decision.ours == pytest.approx(decision.theirs, rel=1e-9)


def test_what_cannot_be_trained_on_is_named_and_nothing_registered(
    long_world: Settings, tmp_path: Path
) -> None:
    settings = tracked_at(long_world, tmp_path)
    with pytest.raises(DatasetError, match="at least one event of a session"):
        retrain(settings, NAME, end=FIRST_DAY - DAY, changes=CHANGES)
    with pytest.raises(DatasetError, match="at least 500 sessions with a next one"):
        retrain(settings, NAME, end=FIRST_DAY + 3 * DAY, changes=CHANGES)
    with pytest.raises(DatasetError, match="widen the window"):
        retrain(settings, NAME, changes=CHANGES | {"gap": "P20D"})
    client = mlflow.MlflowClient(settings.mlflow_url)
    assert not client.search_model_versions(f"name = '{NAME}'")


def test_one_class_only_and_a_missing_column(long_world: Settings) -> None:
    examples = build(long_world, config=QUICK)
    dataset = examples.dataset
    always = replace(dataset, frame=dataset.frame.with_columns(pl.lit("send").alias(TARGET)))
    with pytest.raises(DatasetError, match="for more than one thing"):
        train(replace(examples, dataset=always), QUICK)
    bare = replace(dataset, frame=dataset.frame.drop("share_send"))
    with pytest.raises(ModelError, match="share_send"):
        train(replace(examples, dataset=bare), QUICK)
