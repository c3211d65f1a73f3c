"""The point-in-time join through Feast: every row kept, nothing from the future."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.settings import Settings
from feature_repo.stores.feast_store import open_store
from tests.applied import apply_definitions
from tests.training.sessions import (
    START,
    session_events,
    settings_at,
    write_archive,
    write_batch_tables,
)
from training.dataset import fingerprint, join_features
from training.sessions import closed_sessions

pytestmark = pytest.mark.xdist_group("training")  # the stores are made once


def examples(settings: Settings) -> pl.DataFrame:
    return closed_sessions(settings).frame.select("customer_id", "corridor", "event_timestamp")


def test_stream_features_are_those_of_the_first_event(remittance: Settings) -> None:
    entities = examples(remittance)
    frame = join_features(remittance, "session_duration", entities).frame
    assert_frame_equal(frame.select(entities.columns), entities)
    events = pl.read_parquet(remittance.events_table / "**/*.parquet").sort("event_time")
    first = (
        events.rolling("event_time", period="7d", group_by="customer_id")
        .agg(
            # Of events at one instant all count.
            event_count_7d=pl.len().cast(pl.Int64),
            page_view_count_7d=(pl.col("event_type") == "page_view").sum().cast(pl.Int64),
            session_channel_last=pl.col("channel").last(),
        )
        .unique(["customer_id", "event_time"], keep="last")
    )
    keys = ["customer_id", "event_time"]
    expected = entities.rename({"event_timestamp": "event_time"}).join(
        first, on=keys, how="left", maintain_order="left"
    )
    names = ["event_count_7d", "page_view_count_7d", "session_channel_last"]
    assert_frame_equal(frame.select(names), expected.select(names))
    assert (frame["session_start_hour"] == frame["event_timestamp"].dt.hour()).all()


def test_batch_features_are_those_of_the_day(remittance: Settings) -> None:
    entities = examples(remittance)
    frame = join_features(remittance, "session_duration", entities).frame
    table = pl.read_parquet(remittance.batch_table("customer_profile") / "**/*.parquet")
    midnight = entities.with_columns(pl.col("event_timestamp").dt.truncate("1d"))
    day = midnight.join(table, on=["customer_id", "event_timestamp"], how="left")
    assert_frame_equal(frame.select("tenure_days"), day.select("tenure_days"))
    assert frame["cost_pct_usd200"].null_count() == 0


def test_the_inputs_are_the_services_in_order(remittance: Settings) -> None:
    data = join_features(remittance, "session_duration", examples(remittance).head(5))
    assert [item.ref for item in data.inputs][:2] == [
        "customer_session:session_start_hour",
        "customer_session:session_start_weekday",
    ]
    assert [item.ref for item in data.inputs][-1] == "corridor_costs:providers"
    assert {item.dtype for item in data.inputs} == {"Int64", "Float64", "String"}
    assert data.frame.columns[3:] == [item.feature for item in data.inputs]


def test_a_click_log_has_no_batch_features(
    clicks: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="training.dataset"):
        data = join_features(clicks, "session_duration", examples(clicks))
    assert data.absent_views == ("customer_profile", "customer_financials", "corridor_costs")
    assert "no offline rows of customer_profile, customer_financials" in caplog.text
    assert data.frame["tenure_days"].null_count() == data.frame.height
    assert data.frame["corridor"].dtype == pl.String
    assert data.frame["event_count_7d"].null_count() == 0


def test_nothing_from_the_future_changes_the_data_set(tmp_path: Path) -> None:
    events = session_events(400, 60, seed=9)
    settings = settings_at(tmp_path / "as-is")
    write_archive(settings, events)
    apply_definitions(settings)
    entities = examples(settings)
    before = join_features(settings, "session_duration", entities)

    latest = entities.group_by("customer_id").agg(pl.col("event_timestamp").max())
    later = pl.col("event_time") > pl.col("event_timestamp")
    changed = (
        events.join(latest, on="customer_id", how="left", maintain_order="left")
        .with_columns(
            pl.when(later).then(pl.lit("payment_failed")).otherwise("event_type"),
            pl.when(later).then(pl.lit("phone")).otherwise("channel").alias("channel"),
        )
        .select(events.columns)
    )
    assert not changed.equals(events)
    settings = settings_at(tmp_path / "changed")
    write_archive(settings, changed)
    apply_definitions(settings)
    after = join_features(settings, "session_duration", entities)
    assert before.fingerprint == after.fingerprint


def test_future_and_unknown_rows_are_kept_with_empty_features(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    write_archive(settings, session_events(50, 5))
    write_batch_tables(settings, 5, days=3)
    apply_definitions(settings)
    entities = pl.DataFrame(
        {
            "customer_id": ["c1", "nobody", None],
            "corridor": ["GB-NG", None, "XX-YY"],
            # Before all rows of c1; after all rows and within the TTL of the batch views only.
            "event_timestamp": [START - timedelta(days=1), *[START + timedelta(days=20)] * 2],
        },
        schema_overrides={"event_timestamp": pl.Datetime("us", "UTC")},
    )
    frame = join_features(settings, "session_duration", entities).frame
    assert frame.height == 3
    features = frame.drop(entities.columns)
    counts = [name for name in features.columns if "_count_" in name or "_sum_" in name]
    by_customer = dict(zip(frame["customer_id"], features.to_dicts(), strict=True))
    assert all(value is None for value in by_customer[None].values())
    for customer in ("c1", "nobody"):
        # Of no events the counts are 0.
        assert {by_customer[customer][name] for name in counts} == {0}
    assert by_customer["nobody"]["session_start_hour"] is None
    assert by_customer["nobody"]["tenure_days"] is None


def test_a_store_that_loses_rows_is_refused(
    clicks: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = open_store

    class Losing:
        def __init__(self, settings: Settings) -> None:
            self.store = real(settings)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.store, name)

        def get_historical_features(self, **asked: Any) -> Any:
            table: pa.Table = self.store.get_historical_features(**asked).to_arrow()
            return type("Job", (), {"to_arrow": lambda _: table.slice(1)})()

    monkeypatch.setattr("training.dataset.open_store", Losing)
    with pytest.raises(DatasetError, match="others drop rows without features"):
        join_features(clicks, "session_duration", examples(clicks).head(10))


def test_a_service_that_is_not_applied(clicks: Settings) -> None:
    with pytest.raises(DatasetError, match="run: feast apply"):
        join_features(clicks, "no_such_service", examples(clicks).head(1))


def test_no_rows(clicks: Settings) -> None:
    with pytest.raises(DatasetError, match="widen the window"):
        join_features(clicks, "session_duration", examples(clicks).head(0))


def test_the_fingerprint_sees_values_nulls_names_and_order() -> None:
    frame = pl.DataFrame(
        {"a": [1.0, None, 0.0], "s": ["x", None, "y"], "t": [datetime(2025, 1, 1)] * 3}  # noqa: DTZ001
    )
    others = [
        frame.with_columns(a=pl.col("a").fill_null(0.0)),
        frame.with_columns(s=pl.col("s").fill_null("x")),
        frame.with_columns(s=pl.Series(["x", None, "z"])),
        frame.rename({"a": "b"}),
        frame.reverse(),
        frame.with_columns(t=pl.col("t") + timedelta(microseconds=1)),
    ]
    assert len({fingerprint(each) for each in [frame, *others]}) == 7
    assert fingerprint(frame) == fingerprint(pl.concat([frame.head(1), frame.tail(2)]))
