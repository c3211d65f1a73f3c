"""The network that learns session durations from the log, from archive to judged model."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import mlflow
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from feature_repo.contracts.errors import DatasetError, ModelError
from feature_repo.contracts.events import EVENT_SCHEMA
from feature_repo.contracts.features import FEATURE_SET
from feature_repo.contracts.model_inputs import ModelInput, ModelInputs
from feature_repo.contracts.settings import Settings
from feature_repo.scoring.network import Network
from tests.training.sessions import START, session_events, settings_at
from training.champion import load_champion
from training.configuration import load_config
from training.dataset import join_features
from training.duration_network import NAME, Config, build, stream_inputs, train
from training.growing_inputs import frame_of, with_new_categories
from training.judging import Trained, judge
from training.log_examples import log_examples
from training.log_source import file_log
from training.registry import register
from training.session_starts import SessionStarts
from training.sessions import closed_sessions

pytest.importorskip("torch", reason="torch is an extra")
pytestmark = pytest.mark.xdist_group("training")  # the stores and the model are made once

CHANGES = {
    "micro_batch": 64,
    "burn_in": 3_000,
    "learning_rate": 0.003,
    "hidden": [32],
    "weibull_refit_every": 20,
    "latest": 4_000,
    "bootstrap_resamples": 200,
}
QUICK = load_config(Config, NAME, CHANGES)


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return []


@pytest.fixture(scope="module")
def trained(remittance: Settings, lines: list[str]) -> Trained:
    return train(build(remittance), QUICK, lines.append)


def test_it_beats_both_baselines(trained: Trained, lines: list[str]) -> None:
    metrics = trained.candidate.metrics
    assert trained.beats_baseline, trained.verdict
    assert metrics["rmse_difference_high"] < 0
    assert metrics["weibull_difference_high"] < 0
    assert metrics["rmse"] < 0.97 * metrics["baseline_rmse"]
    assert metrics["rmse"] < 0.97 * metrics["weibull_rmse"]
    stronger = min(metrics["baseline_rmse"], metrics["weibull_rmse"])
    assert trained.against_baseline.theirs == stronger
    assert lines[-1].startswith("prequential rmse ")
    assert "beats mean per session_corridor_last's" in lines[-1]
    assert "and Weibull expectation's" in lines[-1]


def test_every_closed_session_is_judged_after_the_burn_in(
    remittance: Settings, trained: Trained
) -> None:
    counts = trained.counts
    closed = closed_sessions(remittance)
    # The log waits another hour for events that come late.
    over = closed.frame["label_timestamp"] + timedelta(hours=1) <= closed.window_end
    assert counts["sessions"] == over.sum() > 8_000
    assert counts["burn_in"] == min(QUICK.burn_in, counts["events"] // 10)
    assert counts["test"] == counts["sessions"] - counts["burn_in"]
    assert counts["open"] == closed.frame.height + closed.open - counts["sessions"] > 0
    assert counts["late"] == 0
    assert counts["sessions"] - QUICK.micro_batch < counts["train"] <= counts["sessions"]


def test_its_inputs_are_those_that_the_offline_join_gives(remittance: Settings) -> None:
    inputs = stream_inputs(remittance, FEATURE_SET)
    names = [item.feature for item in inputs]
    assert {item.view for item in inputs} == {"customer_session", "customer_activity"}
    starts = SessionStarts(FEATURE_SET, names)
    happened = [starts.fold(*each) for each in build(remittance).log()]
    given = pl.concat(
        each.features.with_columns(
            customer_id=each.customers,
            event_timestamp=pl.Series(each.began_us).cast(pl.Datetime("us", "UTC")),
        )
        for each in happened
    ).sort("event_timestamp", "customer_id")
    some = given.gather_every(20)
    joined = join_features(
        remittance, NAME,
        some.select("customer_id", "event_timestamp", corridor="session_corridor_last"),
    ).frame  # fmt: skip
    assert some.height > 400
    for name in names:
        ours, theirs = some[name], joined[name]
        if ours.dtype == pl.Float64:
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, err_msg=name)
        else:
            assert ours.equals(theirs), name


def test_the_same_result_twice(remittance: Settings, trained: Trained) -> None:
    examples = build(remittance)
    again = train(examples, QUICK, lambda line: None)
    ours, theirs = again.candidate, trained.candidate
    assert ours.scorer.files() == theirs.scorer.files()
    assert ours.data_fingerprint == theirs.data_fingerprint == examples.dataset.fingerprint
    assert again.against_baseline == trained.against_baseline
    assert ours.pictures == theirs.pictures
    timeless = {"training_s": 0.0}
    assert {**ours.metrics, **timeless} == {**theirs.metrics, **timeless}


def test_what_is_registered_is_fed_the_rows_that_trees_are_fed(
    remittance: Settings, trained: Trained
) -> None:
    candidate = trained.candidate
    (raw,) = candidate.scorer.files().values()
    frame = trained.held_out.frame
    matrix = candidate.inputs.matrix(frame)
    assert matrix.shape == (4_000, candidate.inputs.width)
    scores = Network(raw)(matrix)
    # With all that was learnt, better than as they were predicted.
    assert np.corrcoef(scores, trained.held_out.prediction)[0, 1] > 0.95
    golden = candidate.golden()
    np.testing.assert_allclose(golden.scores, Network(raw)(golden.matrix), rtol=0, atol=1e-6)
    np.testing.assert_allclose(
        golden.predictions, np.maximum(np.expm1(golden.scores), 0), rtol=1e-6
    )
    assert candidate.inputs.feature_service == NAME
    channel = candidate.inputs.inputs[candidate.inputs.names.index("session_channel_last")]
    assert sorted(channel.categories) == ["app", "web"]
    assert judge(trained, None).promote


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
def test_a_registered_version_is_a_champion_to_be_judged_by(
    remittance: Settings, trained: Trained, tmp_path: Path
) -> None:
    settings = replace(remittance, mlflow_url=f"sqlite:///{tmp_path}/mlflow.db")
    client = mlflow.MlflowClient(settings.mlflow_url)
    client.create_experiment(NAME, artifact_location=str(tmp_path / "artifacts"))
    version = register(settings, trained.candidate, trained.against_baseline)
    client.set_registered_model_alias(NAME, "champion", str(version))
    champion = load_champion(settings, NAME)
    assert champion is not None
    frame = trained.held_out.frame
    scores, _ = trained.candidate.scorer.score(champion.inputs.matrix(frame))
    np.testing.assert_allclose(champion.predict(frame), scores, rtol=0, atol=1e-6)
    decision = judge(trained, champion)
    assert decision.against == f"champion version {version}"
    # It has learnt from the very sessions that it is judged on, and is still hardly better.
    assert decision.ours == pytest.approx(decision.theirs, rel=0.03)


def test_tables_and_pictures(trained: Trained) -> None:
    table = trained.candidate.tables["errors_over_time"]
    assert table["sessions"].sum() == trained.counts["test"]
    assert table.columns[2:] == [
        NAME, "mean per session_corridor_last", "Weibull expectation",
    ]  # fmt: skip
    assert set(trained.candidate.pictures) == {"importance.png", "errors_over_time.png"}
    for picture in trained.candidate.pictures.values():
        assert picture.startswith(b"\x89PNG")
    weights = trained.candidate.importance
    assert weights["feature"][0] == "session_channel_last", "what was planted"
    assert weights["share"].sum() == pytest.approx(1.0)


def test_a_window_is_a_log_that_ends_there(remittance: Settings, trained: Trained) -> None:
    end = START + timedelta(days=5)
    examples = build(remittance, end=end)
    assert examples.window[1] <= end
    assert examples.dataset.fingerprint != trained.candidate.data_fingerprint
    found = train(examples, replace(QUICK, burn_in=500), lambda line: None)
    assert 0 < found.counts["sessions"] < trained.counts["sessions"]
    later = build(remittance, START + timedelta(days=2), end)
    assert later.dataset.fingerprint != examples.dataset.fingerprint
    assert (
        later.dataset.fingerprint
        == build(remittance, START + timedelta(days=2), end).dataset.fingerprint
    )
    some = train(later, replace(QUICK, burn_in=500), lambda line: None)
    assert some.counts["sessions"] < found.counts["sessions"]


def test_a_click_log_from_its_file(clicks: Settings, tmp_path: Path) -> None:
    events = session_events(4_000, 800, corridors=False, seed=3)
    path = tmp_path / "clicks.parquet"
    pq.write_table(events.to_arrow().cast(EVENT_SCHEMA), path)
    examples = log_examples(
        NAME, file_log(path, FEATURE_SET), FEATURE_SET, stream_inputs(clicks, FEATURE_SET)
    )
    config = replace(QUICK, baseline_group="session_channel_last", burn_in=1_000)
    found = train(examples, config, lambda line: None)
    assert found.counts["events"] == events.height
    assert found.candidate.metrics["rmse"] < found.candidate.metrics["baseline_rmse"]
    assert found.held_out.frame["session_corridor_last"].null_count() == len(found.held_out.target)


def test_a_later_label_cannot_change_an_earlier_prediction(
    clicks: Settings, tmp_path: Path
) -> None:
    events = session_events(4_000, 800, corridors=False, seed=3)
    later = START + timedelta(days=6)
    # From then on every session is its first half minute, so the labels are others.
    began = pl.col("event_time").diff().over("customer_id") > timedelta(minutes=45)
    start = pl.when(began.fill_null(value=True)).then(pl.col("event_time"))
    short = pl.col("event_time") - start.forward_fill().over("customer_id") < timedelta(seconds=30)
    changed = events.filter((pl.col("event_time") < later) | short)
    found = []
    for number, log in enumerate((events, changed)):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(log.to_arrow().cast(EVENT_SCHEMA), path)
        examples = log_examples(
            NAME, file_log(path, FEATURE_SET), FEATURE_SET, stream_inputs(clicks, FEATURE_SET)
        )
        config = replace(QUICK, baseline_group="session_channel_last", burn_in=500, latest=100_000)
        found.append(train(examples, config, lambda line: None).held_out)
    plain, other = found
    # In the order in which they closed: the same sessions up to where the labels part.
    count = min(len(plain.target), len(other.target))
    rows = [
        side.frame.head(count).with_columns(label=side.target[:count]).hash_rows()
        for side in (plain, other)
    ]
    same = int((rows[0] != rows[1]).arg_max() or 0)
    assert 1_000 < same < 2_500
    np.testing.assert_allclose(plain.prediction[:same], other.prediction[:same], atol=1e-5)
    assert plain.prediction[-500:].mean() > other.prediction[-500:].mean() + 0.5


def test_too_little_to_learn_from(remittance: Settings, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="stream events first"):
        build(settings_at(tmp_path))
    with pytest.raises(DatasetError, match="at least one event"):
        build(remittance, end=START - timedelta(days=1))
    with pytest.raises(DatasetError, match="an instant before end"):
        build(remittance, START, START - timedelta(days=1))
    examples = build(remittance, end=START + timedelta(hours=3))
    with pytest.raises(DatasetError, match=r"the burn-in of .*, and at least 50"):
        train(examples, QUICK, lambda line: None)


def test_configurations_that_cannot_be(remittance: Settings) -> None:
    for changes, message in (
        ({"layers": [3]}, "layers"),
        ({"hidden": []}, "hidden layers"),
        ({"micro_batch": 0}, "counts of 1 or more"),
        ({"averaging": 1.0}, "averaging in 0..1"),
        ({"periods": {"session_start_hour": 0}}, "periods above 0"),
        ({"micro_batch": "many"}, "micro_batch"),
    ):
        with pytest.raises(ModelError, match=message):
            load_config(Config, NAME, changes)
    examples = build(remittance)
    for config, message in (
        (
            replace(QUICK, baseline_group="colour"),
            "a feature of the session_duration_network service",
        ),
        (replace(QUICK, baseline_group="event_count_1h"), "a category"),
        (replace(QUICK, periods={"moon": 28.0}), "moon"),
    ):
        with pytest.raises(DatasetError, match=message):
            train(examples, config, lambda line: None)


def test_categories_are_numbered_as_they_are_seen_and_turn_into_texts_again() -> None:
    item = ModelInput("v", "channel", "String")
    number = ModelInput("v", "count", "Int64")
    inputs = ModelInputs("m", (item, number))
    first = pl.DataFrame({"channel": ["web", None, "app"], "count": [1, None, 3]})
    second = pl.DataFrame({"channel": ["kiosk", "web"], "count": [4, 5]})
    inputs = with_new_categories(inputs, first)
    before = inputs.matrix(first)
    inputs = with_new_categories(inputs, second)
    assert inputs.inputs[0].categories == ("web", "app", "kiosk")
    np.testing.assert_array_equal(inputs.matrix(first), before)
    back = frame_of(inputs, inputs.matrix(second))
    assert back["channel"].to_list() == ["kiosk", "web"]
    assert frame_of(inputs, before)["channel"].to_list() == ["web", None, "app"]
    assert frame_of(inputs, before)["count"].to_list() == [1.0, None, 3.0]
