"""`get_historical_features` of stream features: what `backfill --spine` says at that instant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from feast import FeatureStore
from polars.testing import assert_frame_equal

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.events import EVENT_SCHEMA
from feature_repo.contracts.feature_set import load_feature_set
from feature_repo.contracts.settings import Settings
from feature_repo.stores.feast_store import open_store
from streaming.backfill import backfill_spine, event_source
from streaming.simulator import load_world, simulate
from streaming.sinks.offline import OfflineWriter
from tests.applied import apply_definitions

START = datetime(2025, 6, 2, tzinfo=UTC)
DEFAULT = load_feature_set()
# Every feature of every view.
REFS = [f"{view.name}:{output.name}" for view in DEFAULT.views for output in view.outputs]
NAMES = [ref.partition(":")[2] for ref in REFS]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """An archive of two partitions and some flushes, and a batch view of corridors."""
    home = tmp_path_factory.mktemp("history")
    settings = Settings.from_env({"DAIMA_HOME": str(home)})
    world = simulate(
        load_world(), customers=300, start=START, end=START + timedelta(days=2), seed=5
    )
    events = world.events.combine_chunks().to_batches()[0]
    writer = OfflineWriter(settings.events_table, EVENT_SCHEMA, 1)
    partition = np.array([hash(name) % 2 for name in events.column("customer_id").to_pylist()])
    for first in range(0, len(events), 900):
        part = partition[first : first + 900]
        for number in (0, 1):
            rows = pa.array(first + np.flatnonzero(part == number))
            writer.write(number, first, events.take(rows))
        writer.flush()
    writer.close()
    costs = pl.DataFrame(
        {
            "corridor": [f"{a}-{b}" for a, b in _corridors(events)],
            "event_timestamp": [START + timedelta(days=1)] * len(_corridors(events)),
        }
    ).with_columns(
        pl.col("event_timestamp").cast(pl.Datetime("us", "UTC")),
        cost_pct_usd200=pl.int_range(pl.len()).cast(pl.Float64),
        cost_pct_usd500=1.0,
        fx_margin_pct=1.0,
        providers=3,
    )
    folder = settings.batch_table("corridor_costs") / "event_date=2025-06-02"
    folder.mkdir(parents=True)
    costs.write_parquet(folder / "costs.parquet")
    apply_definitions(settings)
    return settings


def _corridors(events: pa.RecordBatch) -> list[tuple[str, str]]:
    ends = (events.column(name).to_pylist() for name in ("send_country", "receive_country"))
    return sorted(set(zip(*ends, strict=True)))


@pytest.fixture
def store(settings: Settings) -> FeatureStore:
    return open_store(settings)


def asked(settings: Settings, rows: int = 300) -> pd.DataFrame:
    """Random keys at random instants, some of them strangers, some after a long silence."""
    rng = np.random.default_rng(4)
    events = pl.read_parquet(settings.events_table / "**/*.parquet")
    corridors = events.select(pl.format("{}-{}", "send_country", "receive_country")).to_series()
    counterparties = events["counterparty_id"].drop_nulls()
    hours = [START + timedelta(hours=h) for h in rng.integers(-2, 12 * 24, rows).tolist()]
    # Half of them soon after an event of the customer.
    some = events.sample(rows, seed=4).sort("event_id")
    seconds = rng.integers(0, 2_000, rows).tolist()
    soon = [at + timedelta(seconds=s) for at, s in zip(some["event_time"], seconds, strict=True)]
    near = rng.random(rows) < 0.5
    instants = [
        at if chosen else other for at, other, chosen in zip(soon, hours, near, strict=True)
    ]
    customers = rng.choice([*events["customer_id"].unique().sort(), "nobody"], rows)
    return pd.DataFrame(
        {
            "customer_id": np.where(near, some["customer_id"], customers),
            "corridor": rng.choice(corridors.unique().sort().to_list(), rows),
            "counterparty_id": rng.choice(counterparties.unique().sort().to_list(), rows),
            "event_timestamp": pd.to_datetime(pd.Series(instants), utc=True).dt.as_unit("us"),
        }
    )


def with_as_of(entities: pd.DataFrame) -> pd.DataFrame:
    return entities.assign(as_of_us=entities["event_timestamp"].astype("int64"))


def joined(store: FeatureStore, entities: pd.DataFrame, refs: list[str]) -> pl.DataFrame:
    frame = pl.from_arrow(store.get_historical_features(entities.copy(), refs).to_arrow())
    assert isinstance(frame, pl.DataFrame)
    return frame


def test_it_equals_the_spine(tmp_path: Path, settings: Settings, store: FeatureStore) -> None:
    entities = asked(settings)
    pl.from_pandas(entities).write_parquet(tmp_path / "spine.parquet")
    backfill_spine(
        event_source(settings.events_table), DEFAULT, tmp_path / "spine.parquet", tmp_path / "out"
    )
    spine = pl.read_parquet(sorted((tmp_path / "out").glob("*.parquet")))
    found = joined(store, with_as_of(entities), REFS)
    assert_frame_equal(found.select(NAMES), spine.select(NAMES))
    assert len(found) == 300
    assert 0 < found["session_start_us"].null_count() < 300
    assert found["lifetime_event_count"].max() > 20  # type: ignore[operator]


def test_beside_other_views_and_with_full_names(settings: Settings, store: FeatureStore) -> None:
    entities = with_as_of(asked(settings, 40))
    refs = ["corridor_costs:cost_pct_usd200", "customer_activity:event_count_7d"]
    short = joined(store, entities, refs)
    assert short.columns == [*entities.columns, "cost_pct_usd200", "event_count_7d"]
    assert 0 < short["cost_pct_usd200"].null_count() < 40  # before the first day there is none
    job = store.get_historical_features(entities.copy(), refs, full_feature_names=True)
    full = pl.from_arrow(job.to_arrow())
    assert isinstance(full, pl.DataFrame)
    assert full.columns[-2:] == [
        "corridor_costs__cost_pct_usd200",
        "customer_activity__event_count_7d",
    ]
    assert full.to_series(-1).to_list() == short.to_series(-1).to_list()


def test_a_feature_service(settings: Settings, store: FeatureStore) -> None:
    service = store.get_feature_service("session_duration")
    entities = with_as_of(asked(settings, 10))
    absent = {"customer_profile", "customer_financials"}
    refs = [
        f"{projection.name}:{field.name}"
        for projection in service.feature_view_projections
        if projection.name not in absent
        for field in projection.features
    ]
    frame = joined(store, entities, refs)
    assert len(frame) == 10
    assert "session_start_hour" in frame.columns


def test_another_instant_than_the_rows_own_is_refused(
    settings: Settings, store: FeatureStore
) -> None:
    entities = with_as_of(asked(settings, 3))
    entities["as_of_us"] += np.array([0, 1, 0])
    job = store.get_historical_features(entities, ["customer_session:session_event_count"])
    with pytest.raises(DatasetError, match=r"as_of_us is .*: expected the row's own"):
        job.to_df()


def test_states_of_the_past_are_refused(settings: Settings, store: FeatureStore) -> None:
    with pytest.raises(DatasetError, match="the states of the past are not stored"):
        store.get_historical_features(asked(settings, 3), ["customer_state:customer_state"])


def test_without_an_archive_it_says_what_to_do(tmp_path: Path, settings: Settings) -> None:
    empty = Settings.from_env({"DAIMA_HOME": str(tmp_path)})
    apply_definitions(empty)
    entities = with_as_of(asked(settings, 3))
    job = open_store(empty).get_historical_features(entities, ["customer_activity:event_count_1h"])
    with pytest.raises(DatasetError, match="stream events first"):
        job.to_df()
