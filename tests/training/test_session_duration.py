"""The model of session duration, from offline store to registered version."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import lightgbm as lgb
import mlflow
import numpy as np
import polars as pl
import pytest

from feature_repo.contracts.errors import DatasetError, ModelError
from feature_repo.contracts.model_files import (
    CALIBRATION_FILE,
    GOLDEN_FILE,
    INPUTS_FILE,
    Calibration,
    Golden,
)
from feature_repo.contracts.model_inputs import ModelInputs
from feature_repo.contracts.settings import Settings
from tests.training.sessions import START, as_events, settings_at, write_archive
from training.configuration import load_config
from training.judging import Trained
from training.model_files import CARD_FILE, DECISION_FILE
from training.registry import register, reject
from training.session_duration import NAME, Config, build, train
from training.sessions import closed_sessions

QUICK = load_config(Config, NAME, {"max_rounds": 60, "num_leaves": 7, "bootstrap_resamples": 300})
# SQLAlchemy 2.1's words to MLflow, which opens its own tables in this process here.
pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.xdist_group("training"),  # the stores and the model are made once
]


@pytest.fixture(scope="module")
def trained(remittance: Settings) -> Trained:
    return train(build(remittance), QUICK)


def test_it_beats_the_mean_of_the_corridor(trained: Trained) -> None:
    metrics = trained.candidate.metrics
    assert metrics["rmse"] < metrics["weibull_rmse"]
    assert metrics["weibull_difference_high"] < 0
    # Both baselines know the corridor alone: the mean is the best that can be done with it.
    assert metrics["baseline_rmse"] <= metrics["weibull_rmse"] + 1e-3
    assert metrics["rmse"] < metrics["baseline_rmse"] <= metrics["overall_mean_rmse"] + 0.01
    assert trained.beats_baseline
    interval = trained.against_baseline.interval
    assert interval.low < interval.high < 0
    assert trained.baseline == "mean per session_corridor_last"
    assert "beats mean per session_corridor_last" in trained.verdict


def test_planted_drivers_rank_on_top(trained: Trained) -> None:
    importance = trained.candidate.importance
    assert importance["feature"][0] == "session_channel_last"
    assert set(importance["feature"].head(4)) >= {"session_channel_last", "session_start_hour"}
    assert importance["share"].sum() == pytest.approx(1.0)
    for column in ("gain", "permutation", "shap"):
        leading = importance.sort(column, descending=True)["feature"]
        assert leading[0] == "session_channel_last", column
    assert importance["shap"].is_sorted(descending=True)
    assert trained.candidate.pictures["importance.png"].startswith(b"\x89PNG")


def test_the_same_result_twice(remittance: Settings, trained: Trained) -> None:
    again = train(build(remittance), QUICK)
    ours, theirs = again.candidate, trained.candidate
    assert ours.scorer.files() == theirs.scorer.files()
    assert ours.data_fingerprint == theirs.data_fingerprint
    assert again.against_baseline == trained.against_baseline
    assert ours.pictures == theirs.pictures
    timeless = {"training_s": 0.0}
    assert {**ours.metrics, **timeless} == {**theirs.metrics, **timeless}


def test_a_click_log_is_judged_by_its_channel(clicks: Settings) -> None:
    lines: list[str] = []
    trained = train(
        build(clicks), replace(QUICK, baseline_group="session_channel_last"), report=lines.append
    )
    assert trained.baseline == "mean per session_channel_last"
    assert lines[0].startswith("round 50: validation RMSE")
    assert lines[-1].startswith(trained.verdict)
    assert trained.candidate.params["absent_views"] == (
        "customer_profile,customer_financials,corridor_costs"
    )


def test_parts_are_in_time_order(trained: Trained) -> None:
    params, counts = trained.candidate.params, trained.counts
    assert str(params["validation_start"]) < str(params["test_start"])
    assert counts["train"] > counts["test"] > counts["validation"] > 0
    assert counts["train"] + counts["validation"] + counts["test"] <= counts["sessions"]
    assert counts["open"] > 0


def test_labels_that_come_after_the_end_are_not_learnt_from(remittance: Settings) -> None:
    end = START + timedelta(days=4)
    examples = build(remittance, end=end)
    assert examples.window[1] == end
    sessions = closed_sessions(remittance, end=end)
    assert sessions.frame["label_timestamp"].max() <= end  # type: ignore[operator]
    assert examples.dataset.frame.height == sessions.frame.height


def test_too_little_to_train_on(tmp_path: Path, remittance: Settings) -> None:
    with pytest.raises(DatasetError, match="at least 50 closed sessions, it has 1;"):
        build(one_session(tmp_path))
    with pytest.raises(DatasetError, match="at least one event"):
        build(remittance, end=datetime(2001, 1, 1, tzinfo=UTC))


def one_session(home: Path) -> Settings:
    """One session that is over, and the first event of another."""
    settings = settings_at(home)
    events = pl.DataFrame(
        {
            "event_id": ["1", "2"],
            "customer_id": ["a", "b"],
            "event_time": [START, START + timedelta(hours=2)],
            "event_type": ["login", "login"],
        }
    )
    write_archive(settings, as_events(events))
    return settings


def test_an_unknown_baseline_column(remittance: Settings) -> None:
    examples = build(remittance)
    with pytest.raises(DatasetError, match="such as session_corridor_last"):
        train(examples, replace(QUICK, baseline_group="colour"))


def test_a_registered_version_says_what_it_is(tracked: Settings, trained: Trained) -> None:
    version = register(tracked, trained.candidate, trained.against_baseline)
    client = mlflow.MlflowClient(tracked.mlflow_url)
    tags = client.get_model_version("session_duration", str(version)).tags
    inputs = trained.candidate.inputs
    assert json.loads(tags["features"]) == [item.ref for item in inputs.inputs]
    assert tags["schema_fingerprint"] == inputs.fingerprint
    assert tags["feature_service"] == "session_duration"
    assert (tags["target"], tags["target_transform"], tags["unit"]) == (
        "session_duration_s",
        "log1p",
        "s",
    )
    assert tags["metric_name"] == "rmse"
    assert float(tags["metric_value"]) == trained.candidate.metric_value
    assert datetime.fromisoformat(tags["training_window_start"]) >= START
    assert datetime.fromisoformat(tags["training_window_end"]) > START
    assert tags["data_fingerprint"] == trained.candidate.data_fingerprint
    assert client.get_registered_model("session_duration").aliases == {}  # serving's to move

    reject(tracked, "session_duration", version, "not better")
    tags = client.get_model_version("session_duration", str(version)).tags
    assert tags["rejected"] == "not better"


def test_plain_mlflow_loads_it(tracked: Settings, trained: Trained) -> None:
    version = register(tracked, trained.candidate, trained.against_baseline)
    uri = f"models:/session_duration/{version}"
    folder = Path(mlflow.artifacts.download_artifacts(uri))
    inputs = ModelInputs.from_json((folder / INPUTS_FILE).read_bytes())
    assert inputs == trained.candidate.inputs
    assert inputs.inputs[3].categories == ("app", "web")
    assert not list(folder.rglob("*.pkl"))

    frame = build(tracked).dataset.frame.head(200)
    matrix = inputs.matrix(frame)
    ours = trained.candidate.scorer.score(matrix)[0]
    plain = mlflow.pyfunc.load_model(uri)
    assert np.array_equal(plain.predict(pl.DataFrame(matrix, list(inputs.names)).to_pandas()), ours)
    assert np.array_equal(lgb.Booster(model_file=folder / "model.lgb").predict(matrix), ours)
    assert plain.metadata.signature.inputs.input_names() == list(inputs.names)
    run = mlflow.MlflowClient().get_run(plain.metadata.run_id)
    assert run.data.metrics["rmse"] == trained.candidate.metric_value
    names = {file.path for file in mlflow.MlflowClient().list_artifacts(plain.metadata.run_id)}
    assert names == {"importance.csv", "importance.png", "slices.csv", CARD_FILE, DECISION_FILE}
    card = (folder / CARD_FILE).read_text()
    assert card.startswith("# session_duration\n\nHow long will this session last?")
    assert f"**Promoted** against {trained.baseline}" in card
    assert json.loads((folder / DECISION_FILE).read_bytes())["promote"] is True


def test_a_version_proves_itself_by_its_golden_rows(tracked: Settings, trained: Trained) -> None:
    curve = Calibration("sigmoid", (0.0, 8.0), (0.25, 0.75))
    version = register(
        tracked, replace(trained.candidate, calibration=curve), trained.against_baseline
    )
    uri = f"models:/session_duration/{version}"
    folder = Path(mlflow.artifacts.download_artifacts(uri))
    golden = Golden.from_json((folder / GOLDEN_FILE).read_bytes())
    assert len(golden.rows) == 33
    assert np.isnan(golden.matrix[-1]).all(), "a customer of whom nothing is known"
    assert not np.isnan(golden.matrix[:-1]).all(axis=0).all()
    scores = lgb.Booster(model_file=folder / "model.lgb").predict(golden.matrix)
    assert scores.tolist() == list(golden.scores), "to the last bit"
    assert np.maximum(np.expm1(scores), 0.0).tolist() == list(golden.predictions)
    assert Calibration.from_json((folder / CALIBRATION_FILE).read_bytes()) == curve
    assert golden.probabilities is not None
    assert curve.probability(scores).tolist() == list(golden.probabilities)


def test_a_candidate_without_examples_is_not_registered(
    tracked: Settings, trained: Trained
) -> None:
    bare = replace(trained.candidate, examples=trained.candidate.examples[:0])
    with pytest.raises(ModelError, match="golden_rows"):
        register(tracked, bare, trained.against_baseline)


def test_mlflow_is_down(
    remittance: Settings, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    nowhere = replace(remittance, mlflow_url="http://127.0.0.1:1")
    with pytest.raises(ModelError, match=r"start it \(make up\), then retry"):
        register(nowhere, trained.candidate, trained.against_baseline)
