"""All customers scored by the champion, in both stores, and what stands in the way."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import numpy as np
import polars as pl
import pytest

from feature_repo.contracts.errors import DatasetError, ModelError
from feature_repo.contracts.settings import Settings
from feature_repo.stores.feast_store import open_store
from flows.score import score
from tests.applied import apply_definitions
from tests.training.sessions import START, session_events, settings_at, write_archive
from training.champion import load_champion
from training.dataset import join_features
from training.retraining import retrain
from training.scoring import score_all

NAME = "session_duration"
pytestmark = [
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.xdist_group("prefect"),
]
# Values too old are not given online: the sessions are moved to the days before now.
NOW = datetime.now(UTC).replace(microsecond=0)
SHIFT = NOW - (START + timedelta(days=10))


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A world with a champion."""
    settings = settings_at(tmp_path_factory.mktemp("scored"))
    events = session_events(3_000, 200)
    write_archive(settings, events.with_columns(pl.col("event_time") + SHIFT))
    apply_definitions(settings)
    client = mlflow.MlflowClient(settings.mlflow_url)
    client.create_experiment(NAME, artifact_location=str(settings.home / "artifacts"))
    done = retrain(settings, NAME, changes={"max_rounds": 20, "bootstrap_resamples": 50})
    client.set_registered_model_alias(NAME, "champion", str(done.version))
    return settings


@pytest.mark.usefixtures("prefect_server")
def test_every_customer_is_in_both_stores(
    scored: Settings, valkey: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(scored, redis=valkey)
    apply_definitions(settings)
    for name, value in settings.environment().items():
        if name != "PREFECT_API_URL":
            monkeypatch.setenv(name, value)
    assert score() == 200
    refs = ["prediction", "probability", "version"]
    found = open_store(settings).get_online_features(
        [f"session_duration_scores:{NAME}_{ref}" for ref in refs], [{"customer_id": "c7"}]
    )
    values = {name: some[0] for name, some in found.to_dict().items()}
    assert values[f"{NAME}_version"] == 1
    assert values[f"{NAME}_prediction"] > 0
    assert values[f"{NAME}_probability"] is None  # it is none
    (file,) = Path(settings.batch_table("session_duration_scores")).rglob("*.parquet")
    rows = pl.read_parquet(file)
    assert rows.height == rows["customer_id"].n_unique() == 200
    assert score() == 200
    (again,) = Path(settings.batch_table("session_duration_scores")).rglob("*.parquet")
    assert pl.read_parquet(again).equals(rows)


def test_scores_are_the_champions_on_features_of_the_instant(scored: Settings) -> None:
    at = NOW - timedelta(days=2)
    scores = score_all(scored, NAME, at)
    assert scores.at == at
    champion = load_champion(scored, NAME)
    assert champion is not None
    one = scores.rows.row(0, named=True)
    entity = pl.DataFrame(
        {"customer_id": [one["customer_id"]], "corridor": ["GB-NG"], "event_timestamp": [at]},
        schema_overrides={"event_timestamp": pl.Datetime("us", "UTC")},
    )
    frame = join_features(scored, NAME, entity).frame
    expected = np.expm1(champion.predict(frame))[0]
    assert one[f"{NAME}_prediction"] == pytest.approx(expected, rel=1e-12)


def test_who_was_not_seen_is_not_scored(scored: Settings) -> None:
    early = score_all(scored, NAME, NOW - timedelta(days=9, hours=12))
    late = score_all(scored, NAME, seen_within=timedelta(hours=3))
    assert 0 < late.rows.height < 200
    assert 0 < early.rows.height < 200
    with pytest.raises(DatasetError, match="a session within 0:00:01"):
        score_all(scored, NAME, NOW + timedelta(days=1), timedelta(seconds=1))


def test_without_a_champion_nothing_is_written(scored: Settings, tmp_path: Path) -> None:
    bare = replace(scored, mlflow_url=f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(ModelError, match="retrain it first"):
        score_all(bare, NAME)
    with pytest.raises(ModelError, match="one of"):
        score_all(scored, "horoscope")
