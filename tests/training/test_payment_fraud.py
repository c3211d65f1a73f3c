"""The model of payment fraud, from offline store to registered version."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import mlflow
import numpy as np
import polars as pl
import pytest
import yaml

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.model_files import Golden
from feature_repo.contracts.settings import Settings
from feature_repo.scoring.scorers import Trees
from feature_repo.scoring.version_folder import VersionFolder
from serving.policy_file import parse_policy
from tests.training.simulated import FIRST_DAY, simulated_store, simulated_world
from training.champion import load_champion
from training.configuration import load_config
from training.judging import Trained, judge
from training.payment_fraud import AMOUNT, NAME, TARGET, Config, build, train
from training.retraining import retrain

pytest.importorskip("torch", reason="torch is an extra")
CHANGES = {
    "max_rounds": 300, "num_leaves": 7, "bootstrap_resamples": 200,
    "treatments": ["none", "undersampled"],
    "costs": {"review_minor": 2_000},
    "anomaly": {"hidden": [16, 4], "epochs": 5},
}  # fmt: skip
QUICK = load_config(Config, NAME, CHANGES)
DAYS = 75
pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.xdist_group("training"),  # the stores and the model are made once
]


@pytest.fixture(scope="module")
def fraud_world(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A world in which fraud is six times as frequent as it should be."""
    simulation = simulated_world(
        1_500, DAYS, seed=4, account_takeover=6.0, mules=6.0, card_testing=6.0
    )
    return simulated_store(tmp_path_factory.mktemp("fraud"), simulation)


@pytest.fixture(scope="module")
def trained(fraud_world: Settings) -> Trained:
    return train(build(fraud_world, config=QUICK), QUICK)


def test_it_beats_amount_rate_and_anomaly(trained: Trained) -> None:
    metrics = trained.candidate.metrics
    assert trained.beats_baseline, trained.verdict
    assert metrics["average_precision_low"] > metrics["prevalence"]
    assert metrics["roc_auc"] > 0.75
    assert metrics["expected_calibration_error"] <= 0.02
    importance = trained.candidate.importance
    assert importance.filter(pl.col("feature") == "anomaly")["gain"][0] > 0, "the trees use it"


def test_what_is_unusual_is_often_fraud(trained: Trained) -> None:
    metrics = trained.candidate.metrics
    assert metrics["anomaly_roc_auc"] > 0.6
    assert metrics["anomaly_average_precision"] > 1.5 * metrics["prevalence"]


def test_the_operating_point_is_the_cheapest_and_no_half(trained: Trained) -> None:
    metrics = trained.candidate.metrics
    assert metrics["operating_threshold"] != 0.5
    assert metrics["cost_minor"] < metrics["cost_never_minor"]
    assert 0 < metrics["reviewed_share"] < 0.5
    raw = trained.candidate.files["policy.yaml"]
    said = yaml.safe_load(raw)["models"][NAME]["rules"][0]["thresholds"]["review"]
    assert said == metrics["operating_threshold"]
    policy = parse_policy(raw).models[NAME]
    assert policy.decide(said, "GB-NG", None).action == "review"
    assert policy.decide(said - 1e-9, "GB-NG", None).action == "allow"


def test_rarity_is_treated_as_measured(trained: Trained) -> None:
    table = trained.candidate.tables["treatments"]
    assert table["treatment"].to_list() == list(QUICK.treatments)
    best = table.filter("chosen")
    assert best["average_precision"][0] == table["average_precision"].max()
    assert trained.candidate.params["treatment"] == best["treatment"][0]


def test_labels_that_came_after_the_window_are_left_out(fraud_world: Settings) -> None:
    end = FIRST_DAY + timedelta(days=40)
    frame = build(fraud_world, end=end, config=QUICK).dataset.frame
    assert (frame["label_timestamp"] <= end).all()
    assert (frame["event_timestamp"] + QUICK.label_delay <= end).all()
    assert {AMOUNT, "counterparty_id"} <= set(frame.columns)
    hits = frame["counterparty_payment_submitted_customer_id_distinct_count_7d"]
    assert hits.drop_nulls().max() > 1, "features of the recipient are joined"  # type: ignore[operator]


def test_the_same_result_twice(fraud_world: Settings, trained: Trained) -> None:
    again = train(build(fraud_world, config=QUICK), QUICK)
    assert again.candidate.scorer.files() == trained.candidate.scorer.files()
    assert again.candidate.calibration == trained.candidate.calibration
    assert again.candidate.metrics["cost_minor"] == trained.candidate.metrics["cost_minor"]


def test_its_version_scores_alike_wherever_it_is_loaded(
    fraud_world: Settings, trained: Trained, tmp_path: Path
) -> None:
    settings = tracked_at(fraud_world, tmp_path)
    done = retrain(settings, NAME, changes=CHANGES)
    uri = f"models:/{NAME}/{done.version}"
    folder = Path(mlflow.artifacts.download_artifacts(uri))
    assert not list(folder.rglob("*.pkl"))
    golden = Golden.from_json((folder / "golden.json").read_bytes())
    files = VersionFolder(folder, "it")
    scorer = files.scorer()
    assert isinstance(scorer, Trees)
    assert scorer.anomaly is not None
    scores, anomalies = scorer.score(golden.matrix)
    assert scores.tolist() == pytest.approx(list(golden.scores))
    assert anomalies is not None
    plain = mlflow.pyfunc.load_model(uri)
    frame = pl.DataFrame(golden.matrix, list(files.inputs().columns)).to_pandas()
    assert np.asarray(plain.predict(frame)).tolist() == pytest.approx(list(golden.scores))

    client = mlflow.MlflowClient(settings.mlflow_url)
    client.set_registered_model_alias(NAME, "champion", str(done.version))
    champion = load_champion(settings, NAME)
    assert champion is not None
    decision = judge(trained, champion)
    assert decision.promote
    assert decision.ours == pytest.approx(decision.theirs)


def test_what_cannot_be_trained_on_is_named_and_nothing_registered(
    fraud_world: Settings, tmp_path: Path
) -> None:
    settings = tracked_at(fraud_world, tmp_path)
    with pytest.raises(DatasetError, match="at least one payment_submitted event"):
        retrain(settings, NAME, end=FIRST_DAY - timedelta(days=30))
    with pytest.raises(DatasetError, match="a label of a payment_submitted event"):
        retrain(settings, NAME, end=FIRST_DAY + timedelta(days=3))
    with pytest.raises(DatasetError, match="at least 500 payments with a label, it has"):
        retrain(settings, NAME, end=FIRST_DAY + timedelta(days=11, hours=12))
    client = mlflow.MlflowClient(settings.mlflow_url)
    assert not client.search_model_versions(f"name = '{NAME}'")
    examples = build(settings, config=QUICK)
    honest = examples.dataset.frame.with_columns(pl.lit(0.0).alias(TARGET))
    with pytest.raises(DatasetError, match=r"train part is '0 of .* examples have fraud'"):
        train(replace(examples, dataset=replace(examples.dataset, frame=honest)), QUICK)


def tracked_at(settings: Settings, folder: Path) -> Settings:
    """The same stores, with a registry of their own."""
    tracked = replace(settings, mlflow_url=f"sqlite:///{folder}/mlflow.db")
    mlflow.MlflowClient(tracked.mlflow_url).create_experiment(
        NAME, artifact_location=str(folder / "artifacts")
    )
    return tracked
