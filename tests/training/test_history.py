"""The customers' 90 days as of midnights: what was known then, whenever it is computed."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.settings import Settings
from tests.applied import apply_definitions
from tests.training.sessions import START, as_events, settings_at, write_archive
from tests.training.simulated import FIRST_DAY, events_of, simulated_world
from training import history
from training.history import VIEW, check_history, fill_history, history_at, midnights
from training.intents import INTENTS

DAY = timedelta(days=1)


@pytest.fixture
def week(tmp_path: Path) -> Settings:
    settings = settings_at(tmp_path)
    write_archive(settings, events_of(simulated_world(60, 8)))
    apply_definitions(settings)
    return settings


def event(number: int, at: datetime, kind: str, amount: int | None = None) -> dict[str, object]:
    return {
        "event_id": f"e{number}",
        "customer_id": "a",
        "event_time": at,
        "event_type": kind,
        "amount_ref_minor": amount,
    }


def test_what_is_counted(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    rows = [
        event(0, START, "login"),
        event(8, START + 0.99 * DAY, "login"),  # goes on over midnight, for all one knows then
        event(1, START, "financial_snapshot", 4_000),
        event(2, START + 0.5 * DAY, "payment_confirmed", 1_000),
        event(2, START + 0.5 * DAY, "payment_confirmed", 1_000),  # the same again
        event(3, START + 70 * DAY, "payment_confirmed", 3_000),
        event(4, START + 71 * DAY, "financial_snapshot", 8_000),
        event(5, START + 71.5 * DAY, "support_contact"),
        event(6, START + 71.5 * DAY, "payment_failed", 9_000),
        event(7, START + 80 * DAY, "payment_confirmed", 7_000),
    ]
    write_archive(settings, as_events(pl.DataFrame(rows, infer_schema_length=None)))
    instants = [START + days * DAY for days in (0, 1, 80, 100)]
    found = history_at(settings, instants)
    assert found[instants[0]].is_empty(), "an event at midnight is the day's that begins"
    first = found[instants[1]].row(0, named=True)
    assert first == {
        "customer_id": "a",
        "history_days": 1,
        "logins_90d": 2,
        "transfers_90d": 1,
        "failed_90d": 0,
        "contacts_90d": 0,
        "sent_90d_ref_minor": 1_000,
        "largest_90d_ref_minor": 1_000,
        "balance_mean_90d_ref_minor": 4_000.0,
        "days_since_transfer": 0.5,
        "days_since_contact": None,
        "sent_daily_ref_minor": 1_000.0,
        "sent_recent_share": 1.0,
        "last_intent": "send",
        "intent_before_last": "browse",
        **{f"share_{name}": 0.5 * (name in ("browse", "send")) for name in INTENTS},
    }
    later = found[instants[2]].row(0, named=True)
    assert (later["history_days"], later["sent_90d_ref_minor"]) == (80, 4_000)
    assert (later["sent_recent_share"], later["sent_daily_ref_minor"]) == (0.75, 50.0)
    assert (later["contacts_90d"], later["failed_90d"], later["days_since_contact"]) == (1, 1, 8.5)
    last = found[instants[3]].row(0, named=True)
    assert last["history_days"] == 90
    assert last["sent_90d_ref_minor"] == 10_000, "what is older than 90 days is gone"
    assert last["balance_mean_90d_ref_minor"] == 8_000.0


def test_rows_are_those_of_an_archive_that_ends_there(week: Settings, tmp_path: Path) -> None:
    at = FIRST_DAY + 5 * DAY
    events = pl.read_parquet(week.events_table / "**/*.parquet")
    cut = settings_at(tmp_path / "cut")
    write_archive(cut, events.filter(pl.col("event_time") < at))
    assert_frame_equal(history_at(week, [at, at + DAY])[at], history_at(cut, [at])[at])


def test_what_is_missing_is_written_once(week: Settings) -> None:
    days = midnights(FIRST_DAY + 2 * DAY, FIRST_DAY + 4.5 * DAY)
    assert days == [FIRST_DAY + day * DAY for day in (2, 3, 4)]
    assert fill_history(week, days) == 3
    assert fill_history(week, [*days, FIRST_DAY + 5 * DAY]) == 1
    rows = pl.read_parquet(week.batch_table(VIEW) / "**/*.parquet")
    assert rows.group_by("event_timestamp").len().height == 4
    check_history(week, days)


def test_a_row_that_knows_the_future_is_found(
    week: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = history._rows

    def a_day_ahead(by_day: pl.DataFrame, first: pl.DataFrame, at: datetime) -> pl.DataFrame:
        return honest(by_day.with_columns(pl.col("day") - DAY), first, at)

    days = midnights(FIRST_DAY + 2 * DAY, FIRST_DAY + 4 * DAY)
    monkeypatch.setattr(history, "_rows", a_day_ahead)
    fill_history(week, days)
    with pytest.raises(DatasetError, match="its rows know something of later"):
        check_history(week, days[:-1])


def test_only_midnights_and_an_archive(week: Settings, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="00:00 UTC"):
        history_at(week, [FIRST_DAY + timedelta(hours=3)])
    with pytest.raises(DatasetError, match="archive of events"):
        history_at(replace(week, home=tmp_path / "nothing"), [FIRST_DAY])
