"""Labelled examples: what was known by the window's end, and nothing that came later."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.events import EventType
from feature_repo.contracts.settings import Settings
from tests.training.sessions import START, as_events, settings_at, write_archive
from tests.training.simulated import FIRST_DAY, events_of, simulated_world
from training.labels import labelled_events
from training.split import split_by_time

DAY = timedelta(days=1)
pytestmark = pytest.mark.xdist_group("training")  # the world is made once


def archive(home: Path, rows: list[dict[str, object]]) -> Settings:
    settings = settings_at(home)
    write_archive(settings, as_events(pl.DataFrame(rows, infer_schema_length=None)))
    return settings


def login(name: str, at: datetime) -> dict[str, object]:
    return {"event_id": name, "customer_id": "a", "event_time": at, "event_type": "login"}


def label(
    name: str, of: str, at: datetime, *, arrives: datetime | None, value: float = 0.0
) -> dict[str, object]:
    return {
        "event_id": name,
        "customer_id": "a",
        "event_time": at,
        "event_type": "label",
        "label_event_id": of,
        "label_value": value,
        "label_arrival_time": arrives,
    }


def test_every_event_old_enough_has_its_label(small_world: Settings) -> None:
    logins = labelled_events(small_world, EventType.LOGIN, DAY)
    events = pl.read_parquet(small_world.events_table / "**/*.parquet")
    assert logins.events == events.filter(pl.col("event_type") == "login").height
    assert logins.window_end > FIRST_DAY + 15 * DAY
    assert (logins.frame["event_timestamp"] + DAY <= logins.window_end).all()
    assert logins.unlabelled == 0
    assert logins.frame.height + logins.open == logins.events
    assert 0.02 < logins.frame["label_value"].mean() < 0.08  # type: ignore[operator]
    assert logins.frame["event_timestamp"].is_sorted()
    # What labels say is what the calls say.
    calls = events.filter(pl.col("event_type") == "support_contact").select(
        "customer_id", pl.col("event_time").alias("call")
    )
    called = (
        logins.frame.sort("event_timestamp")
        .join_asof(
            calls.sort("call"),
            left_on="event_timestamp",
            right_on="call",
            by="customer_id",
            strategy="forward",
            tolerance="24h",
            check_sortedness=False,
        )
        .select(pl.col("call").is_not_null().cast(pl.Float64))
        .to_series()
    )
    assert (called == logins.frame["label_value"]).mean() > 0.999  # type: ignore[operator]


def test_payments_have_theirs_ten_days_later(small_world: Settings) -> None:
    payments = labelled_events(small_world, EventType.PAYMENT_SUBMITTED, 10 * DAY)
    assert payments.unlabelled == 0
    assert payments.open > payments.frame.height
    assert payments.frame["amount_ref_minor"].null_count() == 0
    assert payments.frame["counterparty_id"].null_count() == 0
    assert set(payments.frame["label_value"].unique()) == {0.0, 1.0}
    delays = payments.frame["label_timestamp"] - payments.frame["event_timestamp"]
    assert delays.min() > 3.9 * DAY  # type: ignore[operator]
    assert delays.max() <= 10 * DAY  # type: ignore[operator]
    # A shorter delay asks for labels that came sooner, and counts the others.
    hasty = labelled_events(small_world, EventType.PAYMENT_SUBMITTED, 6 * DAY)
    assert hasty.unlabelled > 0
    assert hasty.frame.height + hasty.unlabelled + hasty.open == hasty.events


def test_a_label_that_arrives_after_the_end_is_gone_and_nothing_else(tmp_path: Path) -> None:
    events = events_of(simulated_world(150, 6, seed=3))
    end = FIRST_DAY + timedelta(days=5)
    settings = settings_at(tmp_path / "as-is")
    write_archive(settings, events)
    before = labelled_events(settings, EventType.LOGIN, DAY, end=end)
    shifted = before.frame.filter(pl.col("label_value") == 1.0).row(0, named=True)

    moved = events.with_columns(
        pl.when(pl.col("label_event_id") == shifted["event_id"])
        .then(pl.lit(end + timedelta(seconds=1)).cast(pl.Datetime("us", "UTC")))
        .otherwise("label_arrival_time")
        .alias("label_arrival_time")
    )
    assert not moved.equals(events)
    settings = settings_at(tmp_path / "moved")
    write_archive(settings, moved)
    after = labelled_events(settings, EventType.LOGIN, DAY, end=end)
    assert_frame_equal(after.frame, before.frame.filter(pl.col("event_id") != shifted["event_id"]))
    assert (after.unlabelled, after.open) == (before.unlabelled + 1, before.open)


def test_labels_of_the_training_part_were_known_when_the_next_began(small_world: Settings) -> None:
    for kind, delay in ((EventType.LOGIN, DAY), (EventType.PAYMENT_SUBMITTED, 6 * DAY)):
        frame = labelled_events(small_world, kind, delay).frame
        split = split_by_time(frame["event_timestamp"], validation=0.2, test=0.2, gap=DAY * 0)
        late = frame[split.train].filter(pl.col("label_timestamp") > split.validation_start)
        assert late.height > 0, "without a gap some are not"
        if kind is EventType.PAYMENT_SUBMITTED:
            continue  # ten days leave no room for two gaps of six
        split = split_by_time(frame["event_timestamp"], validation=0.2, test=0.2, gap=delay)
        assert frame[split.train]["label_timestamp"].max() <= split.validation_start  # type: ignore[operator]
        assert frame[split.validation]["label_timestamp"].max() <= split.test_start  # type: ignore[operator]


def test_young_events_are_left_out_even_where_their_label_came(tmp_path: Path) -> None:
    hours = {name: START + timedelta(hours=hour) for name, hour in (("old", 0), ("new", 30))}
    settings = archive(
        tmp_path,
        [
            *(login(name, at) for name, at in hours.items()),
            label("l1", "old", hours["old"], arrives=hours["old"] + DAY),
            label("l2", "new", hours["new"], arrives=hours["new"] + 0.1 * DAY, value=1.0),
            login("last", START + timedelta(hours=40)),
        ],
    )
    found = labelled_events(settings, EventType.LOGIN, DAY)
    assert found.frame["event_id"].to_list() == ["old"]
    assert (found.events, found.open, found.unlabelled) == (3, 2, 0)
    assert found.counts == {"examples": 1, "positive": 0, "open": 2, "unlabelled": 0}


def test_a_correction_counts_and_a_repeated_event_does_not(tmp_path: Path) -> None:
    settings = archive(
        tmp_path,
        [
            login("e", START),
            login("e", START),
            label("l1", "e", START, arrives=START + 0.2 * DAY, value=0.0),
            label("l2", "e", START, arrives=START + 0.4 * DAY, value=1.0),
            label("l3", "e", START, arrives=START + 1.5 * DAY, value=0.0),
            login("later", START + 2 * DAY),
        ],
    )
    frame = labelled_events(settings, EventType.LOGIN, DAY).frame
    assert frame.select("event_id", "label_value").rows() == [("e", 1.0)]


def test_what_cannot_be_is_named(tmp_path: Path, small_world: Settings) -> None:
    bare = archive(tmp_path, [login("a", START), login("b", START + 3 * DAY)])
    with pytest.raises(DatasetError, match="a label of a login event"):
        labelled_events(bare, EventType.LOGIN, DAY)
    with pytest.raises(DatasetError, match="at least one payment_submitted event"):
        labelled_events(bare, EventType.PAYMENT_SUBMITTED, DAY)
    with pytest.raises(DatasetError, match="at least one login event"):
        labelled_events(small_world, EventType.LOGIN, DAY, end=FIRST_DAY - DAY)
    with pytest.raises(DatasetError, match="a time above zero"):
        labelled_events(small_world, EventType.LOGIN, 0 * DAY)
    with pytest.raises(DatasetError, match="archive of events"):
        labelled_events(settings_at(tmp_path / "nothing"), EventType.LOGIN, DAY)
    with pytest.raises(DatasetError, match="an instant with time zone"):
        labelled_events(bare, EventType.LOGIN, DAY, end=datetime(2025, 1, 1))  # noqa: DTZ001
