"""The model of what customers send, from offline store to registered version."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

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
from training.customer_value import NAME, TARGET, Config, build, fit_percentiles, train
from training.judging import Trained, judge
from training.retraining import retrain

DAY = timedelta(days=1)
CHANGES = {
    "horizon": "P5D",
    "gap": "P5D",
    "every": "P1D",
    "history": "P12D",
    "validation_share": 0.35,
    "test_share": 0.30,
    "min_data_in_leaf": 50,
    "max_rounds": 400,
    "bootstrap_resamples": 300,
}
QUICK = load_config(Config, NAME, CHANGES)
pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.xdist_group("training"),  # the stores and the model are made once
]


@pytest.fixture(scope="module")
def trained(long_world: Settings) -> Trained:
    return train(build(long_world, config=QUICK), QUICK)


def test_values_are_what_arrived_within_the_horizon(long_world: Settings) -> None:
    frame = build(long_world, config=QUICK).dataset.frame
    events = pl.read_parquet(long_world.events_table / "**/*.parquet")
    paid = events.filter(pl.col("event_type") == "payment_confirmed")
    for row in frame.sample(20, seed=1).iter_rows(named=True):
        at = row["event_timestamp"]
        arrived = paid.filter(
            (pl.col("customer_id") == row["customer_id"])
            & pl.col("event_time").is_between(at, at + 5 * DAY, closed="left")
        )["amount_ref_minor"].sum()
        assert row[TARGET] == arrived
    assert frame["event_timestamp"].min() >= FIRST_DAY + 12 * DAY  # type: ignore[operator]
    assert frame["label_timestamp"].max() <= FIRST_DAY + 45 * DAY  # type: ignore[operator]


def test_it_beats_both_baselines(trained: Trained) -> None:
    metrics = trained.candidate.metrics
    assert trained.beats_baseline, trained.verdict
    assert metrics["own_rate_difference_high"] < 0
    assert metrics["group_mean_difference_high"] < 0
    assert trained.baseline in ("own past rate", "mean per main_corridor")


def test_its_total_and_percentiles_are_about_right(trained: Trained) -> None:
    metrics = trained.candidate.metrics
    assert metrics["total_ratio"] == pytest.approx(1.0, abs=0.15)  # of 500 customers
    assert 0.5 < metrics["total_factor"] < 2.0
    assert metrics["share_below_p10"] < metrics["share_below_p50"] < metrics["share_below_p90"]
    assert metrics["share_below_p90"] == pytest.approx(0.9, abs=0.06)
    assert metrics["share_below_p50"] == pytest.approx(0.5, abs=0.12)


def test_the_same_result_twice(long_world: Settings, trained: Trained) -> None:
    again = train(build(long_world, config=QUICK), QUICK)
    ours, theirs = again.candidate, trained.candidate
    assert ours.scorer.files() == theirs.scorer.files()
    assert ours.data_fingerprint == theirs.data_fingerprint
    assert ours.answer == theirs.answer
    assert again.against_baseline == trained.against_baseline


def test_percentiles_are_multiples_of_the_prediction() -> None:
    rng = np.random.default_rng(1)
    predicted = rng.lognormal(5, 1, 20_000)
    truth = predicted * rng.exponential(1.0, 20_000)
    spread = fit_percentiles(predicted, truth, (0.1, 0.5, 0.9))
    assert spread.names == ("p10", "p50", "p90")
    low, middle, high = spread.at(np.array([100.0]))[0]
    assert low == pytest.approx(-100 * np.log(0.9), rel=0.1)
    assert middle == pytest.approx(100 * np.log(2), rel=0.1)
    assert high == pytest.approx(100 * np.log(10), rel=0.1)


def tracked_at(settings: Settings, folder: Path) -> Settings:
    """The same stores, with a registry of their own."""
    tracked = replace(settings, mlflow_url=f"sqlite:///{folder}/mlflow.db")
    mlflow.MlflowClient(tracked.mlflow_url).create_experiment(
        NAME, artifact_location=str(folder / "artifacts")
    )
    return tracked


def test_a_version_predicts_money(long_world: Settings, trained: Trained, tmp_path: Path) -> None:
    settings = tracked_at(long_world, tmp_path)
    done = retrain(settings, NAME, changes=CHANGES)
    assert retrain(settings, NAME, changes=CHANGES).version == done.version
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{NAME}/{done.version}"))
    answer = Answer.from_json((folder / ANSWER_FILE).read_bytes())
    assert answer == trained.candidate.answer
    golden = Golden.from_json((folder / "golden.json").read_bytes())
    assert answer.exposure is not None
    column = trained.candidate.inputs.columns.index(answer.exposure.feature)
    money = np.array(golden.scores) * answer.exposure.of(golden.matrix[:, column])
    assert np.array(golden.predictions) == pytest.approx(money, rel=1e-12)
    assert min(golden.predictions) > 0

    client = mlflow.MlflowClient(settings.mlflow_url)
    client.set_registered_model_alias(NAME, "champion", str(done.version))
    champion = load_champion(settings, NAME)
    assert champion is not None
    held_out = trained.held_out
    assert champion.predict(held_out.frame) == pytest.approx(held_out.prediction, rel=1e-9)
    assert judge(trained, champion).promote


def test_what_cannot_be_trained_on_is_named_and_nothing_registered(
    long_world: Settings, tmp_path: Path
) -> None:
    settings = tracked_at(long_world, tmp_path)
    with pytest.raises(DatasetError, match=r"a midnight with 90 days.* and 90 days"):
        retrain(settings, NAME)
    with pytest.raises(DatasetError, match="a midnight with"):
        retrain(settings, NAME, end=FIRST_DAY - DAY, changes=CHANGES)
    with pytest.raises(DatasetError, match=r"widen the window: .* after a gap of 30 days"):
        retrain(settings, NAME, changes=CHANGES | {"gap": "P30D"})
    with pytest.raises(DatasetError, match="whole days"):
        retrain(settings, NAME, changes=CHANGES | {"horizon": "PT36H"})
    with pytest.raises(DatasetError, match="such as main_corridor"):
        retrain(settings, NAME, changes=CHANGES | {"baseline_group": "colour"})
    client = mlflow.MlflowClient(settings.mlflow_url)
    assert not client.search_model_versions(f"name = '{NAME}'")


def test_no_payment_and_a_missing_column(long_world: Settings) -> None:
    examples = build(long_world, config=QUICK)
    dataset = examples.dataset
    nothing = replace(dataset, frame=dataset.frame.with_columns(pl.lit(0).alias(TARGET)))
    with pytest.raises(DatasetError, match="payments that arrive"):
        train(replace(examples, dataset=nothing), QUICK)
    bare = replace(dataset, frame=dataset.frame.drop("transfers_90d"))
    with pytest.raises(ModelError, match="transfers_90d"):
        train(replace(examples, dataset=bare), QUICK)
