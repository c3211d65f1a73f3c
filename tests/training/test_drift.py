"""The drift alarm: silent over a world's later weeks, and it rings when people change."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import mlflow
import msgspec
import polars as pl
import pytest

from feature_repo.contracts.errors import DatasetError, ModelError
from feature_repo.contracts.settings import Settings
from serving.feature_log import columns_of
from streaming.simulator import load_world, simulate
from tests.training.sessions import settings_at, write_archive
from tests.training.simulated import FIRST_DAY, events_of, simulated_store, simulated_world
from training.asked import ASKED, asked
from training.champion import Champion, load_champion
from training.dataset import join_features
from training.drift import LATEST, REFERENCE_FILE, drift
from training.models import MODELS
from training.parity import FEATURE_LOG
from training.retraining import retrain

pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning"),
    pytest.mark.xdist_group("training"),
]
NAME = "session_duration"
CUSTOMERS, DAYS = 300, 124
# Old enough that what counts over 90 days has settled.
TRAINED_FROM, TRAINED_TO = FIRST_DAY + timedelta(days=82), FIRST_DAY + timedelta(days=110)
WINDOWS = [TRAINED_TO + LATEST, TRAINED_TO + 2 * LATEST]


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A world whose champion was trained on its fourth month."""
    home = tmp_path_factory.mktemp("settled")
    settings = simulated_store(home, simulated_world(CUSTOMERS, DAYS, seed=3))
    client = mlflow.MlflowClient(settings.mlflow_url)
    client.create_experiment(NAME, artifact_location=str(home / "artifacts"))
    changes: dict[str, object] = {"max_rounds": 30, "bootstrap_resamples": 20, "threads": 1}
    done = retrain(settings, NAME, TRAINED_FROM, TRAINED_TO, changes=changes)
    client.set_registered_model_alias(NAME, "champion", str(done.version))
    return settings


@pytest.fixture(scope="module")
def champion(settled: Settings) -> Champion:
    found = load_champion(settled, NAME)
    assert found is not None
    return found


def test_it_is_known_of_every_model_when_it_is_asked() -> None:
    assert set(MODELS) <= set(ASKED), "say in training/asked.py when a new model is asked"


@pytest.mark.parametrize("end", WINDOWS)
def test_without_drift_it_is_silent(settled: Settings, end: datetime) -> None:
    found = drift(settled, NAME, end=end)
    assert found.alarming() == []
    assert found.source == "offline store"
    assert found.end - found.start == LATEST
    assert end - timedelta(hours=1) < found.end <= end, "the last event's instant, at the latest"
    assert found.rows > 1_000
    assert found.reference.rows > 4_000
    assert found.columns["column"].to_list().count("prediction") == 1
    outputs = found.columns.filter(pl.col("column") == "prediction")
    assert outputs["psi"].item() < 0.05
    inputs = found.columns.filter(pl.col("column") != "prediction")
    assert inputs["importance"].sum() == pytest.approx(1.0)


def test_people_who_come_thrice_as_often_are_drift(settled: Settings, tmp_path: Path) -> None:
    shutil.copytree(settled.offline, tmp_path / "offline")
    shutil.copytree(settled.home, tmp_path, dirs_exist_ok=True)
    settings = replace(settings_at(tmp_path), mlflow_url=settled.mlflow_url)
    world = load_world()
    busier = msgspec.structs.replace(
        world,
        personas=tuple(
            msgspec.structs.replace(each, sessions_per_week=3 * each.sessions_per_week)
            for each in world.personas
        ),
    )
    end = FIRST_DAY + timedelta(days=DAYS)
    planted = simulate(busier, customers=CUSTOMERS, start=TRAINED_TO, end=end, seed=3)
    before = pl.read_parquet(settled.events_table / "**" / "*.parquet", hive_partitioning=False)
    shutil.rmtree(settings.events_table)
    later = events_of(planted)
    kept = before.filter(pl.col("event_time") < TRAINED_TO).select(later.columns)
    write_archive(settings, pl.concat([kept, later]))
    found = drift(settings, NAME, end=WINDOWS[1])
    assert {"event_count_7d", "page_view_count_7d"} <= set(found.alarming())
    assert found.picture(found.alarming()).startswith(b"\x89PNG")


def test_what_it_was_trained_on_is_kept_beside_the_version(
    settled: Settings, champion: Champion
) -> None:
    found = drift(settled, NAME, end=WINDOWS[0])
    uri = f"models:/{NAME}/{champion.version}/{REFERENCE_FILE}"
    raw = Path(mlflow.artifacts.download_artifacts(uri)).read_bytes()
    assert raw == found.reference.to_json()
    # Read from there, even where the store no longer has the training window.
    assert drift(settled, NAME, end=WINDOWS[1]).reference == found.reference


def serve(settings: Settings, champion: Champion, end: datetime, share: float) -> int:
    """Leave a feature log as serving would: a share of a week's moments, of which a few are
    another version's and one feature is twice what it is.
    """
    moments = asked(settings, NAME, end - LATEST, end)
    some = moments.sample(fraction=share, seed=1)
    frame = join_features(settings, NAME, some).frame.with_columns(
        pl.col("balance_ref_minor") * 100
    )
    rows = pl.DataFrame(
        {
            "at": frame["event_timestamp"],
            "as_of": frame["event_timestamp"],
            "version": str(champion.version),
            "customer": frame["customer_id"],
            "corridor": frame["corridor"],
            **dict(zip(columns_of(champion.inputs), champion.inputs.matrix(frame).T, strict=True)),
        }
    )
    folder = settings.home / FEATURE_LOG / NAME / "date=2025-09-27"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows.write_parquet(folder / "champion.parquet")
    rows.head(10).with_columns(version=pl.lit("999")).write_parquet(folder / "another.parquet")
    return rows.height


def test_what_was_served_goes_before_the_offline_store(
    settled: Settings, champion: Champion
) -> None:
    served = serve(settled, champion, WINDOWS[0], 0.6)
    found = drift(settled, NAME, end=WINDOWS[0])
    assert (found.source, found.rows) == ("feature log", served)
    assert found.alarming() == ["balance_ref_minor"]
    # Too little was served: the store tells.
    serve(settled, champion, WINDOWS[0], 0.1)
    found = drift(settled, NAME, end=WINDOWS[0])
    assert (found.source, found.alarming()) == ("offline store", [])
    shutil.rmtree(settled.home / FEATURE_LOG)


def test_what_cannot_be_judged_is_named(settled: Settings, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="retrain it first"):
        drift(settled, "call_within_day")
    with pytest.raises(DatasetError, match="widen it"):
        drift(settled, NAME, FIRST_DAY - LATEST, FIRST_DAY - timedelta(days=1))
    with pytest.raises(DatasetError, match="at least 100000 moments"):
        drift(settled, NAME, end=WINDOWS[0], least_rows=100_000)
    with pytest.raises(DatasetError, match="with time zone"):
        drift(settled, NAME, FIRST_DAY.replace(tzinfo=None), WINDOWS[0])
    with pytest.raises(DatasetError, match="stream events first"):
        drift(replace(settings_at(tmp_path), mlflow_url=settled.mlflow_url), NAME)
    with pytest.raises(ModelError, match="horoscope"):
        asked(settled, "horoscope", FIRST_DAY, WINDOWS[0])


@pytest.mark.parametrize("model", sorted(ASKED))
def test_moments_lie_in_the_window_and_know_nothing_later(model: str, settled: Settings) -> None:
    start, end = WINDOWS[0] - timedelta(days=2), WINDOWS[0]
    found = asked(settled, model, start, end)
    assert found["event_timestamp"].is_between(start, end).all()
    assert found["event_timestamp"].is_sorted()
    assert found.height > CUSTOMERS / 6
    if model == "customer_value":
        assert found["event_timestamp"].dt.hour().unique().to_list() == [0]
