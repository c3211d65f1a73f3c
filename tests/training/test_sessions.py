"""Closed sessions: what is an example, and what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.settings import Settings
from tests.training.sessions import as_events, settings_at, write_archive
from training.sessions import closed_sessions

NOON = datetime(2025, 5, 1, 12, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


Row = tuple[str, float, str | None]


def store(home: Path, rows: Sequence[Row]) -> Settings:
    """Events of (customer, minute, corridor), in the order in which they came."""
    settings = settings_at(home)
    corridors = [row[2].split("-") if row[2] else (None, None) for row in rows]
    events = pl.DataFrame(
        {
            "event_id": [f"{row[0]}-{row[1]}-{row[2]}" for row in rows],
            "customer_id": [row[0] for row in rows],
            "event_time": [at(row[1]) for row in rows],
            "event_type": ["page_view" for _ in rows],
            "send_country": [corridor[0] for corridor in corridors],
            "receive_country": [corridor[1] for corridor in corridors],
        }
    )
    write_archive(settings, as_events(events))
    return settings


ROWS = [
    ("a", 0, None),
    ("a", 10, "GB-NG"),
    ("b", 5, "GB-IN"),
    ("a", 100, "GB-NG"),
    ("c", 115, None),
    ("c", 125, None),
]


def test_a_session_is_one_example_at_its_first_event(tmp_path: Path) -> None:
    sessions = closed_sessions(store(tmp_path, [*ROWS, ("z", 400, None)]))
    assert sessions.frame.to_dicts() == [
        {
            "customer_id": customer,
            "corridor": corridor,
            "event_timestamp": at(start),
            "duration_s": seconds,
            "label_timestamp": at(known),
        }
        for customer, corridor, start, seconds, known in [
            ("a", None, 0, 600.0, 40),
            ("b", "GB-IN", 5, 0.0, 35),
            ("a", "GB-NG", 100, 0.0, 130),
            ("c", None, 115, 600.0, 155),
        ]
    ]
    assert (sessions.open, sessions.events) == (1, 7)


def test_sessions_that_may_still_go_on_are_left_out(tmp_path: Path) -> None:
    sessions = closed_sessions(store(tmp_path, ROWS))
    assert sessions.window_end == at(125)
    assert sessions.frame["event_timestamp"].to_list() == [at(0), at(5)]
    assert sessions.open == 2


def test_what_comes_after_the_end_is_not_known(tmp_path: Path) -> None:
    settings = store(tmp_path, [*ROWS, ("z", 400, None)])
    early = closed_sessions(settings, end=at(35))
    assert early.frame["customer_id"].to_list() == ["b"]  # a's is known to be over at minute 40
    assert early.window_end == at(35)
    assert early.events == 3
    # A label that arrives exactly at the end counts.
    assert closed_sessions(settings, end=at(40)).frame.height == 2
    assert closed_sessions(settings, end=at(9_999)).window_end == at(400)


def test_sessions_start_within_the_window(tmp_path: Path) -> None:
    settings = store(tmp_path, [*ROWS, ("z", 400, None)])
    late = closed_sessions(settings, start=at(5))
    assert late.frame["event_timestamp"].to_list() == [at(5), at(100), at(115)]
    assert late.window_start == at(5)


def test_what_happens_outside_a_session_is_none(tmp_path: Path) -> None:
    settings = store(tmp_path, [*ROWS, ("z", 400, None)])
    calls = pl.DataFrame(
        {
            "event_id": ["call", "label"],
            "customer_id": ["a", "z"],
            "event_time": [at(25), at(500)],
            "event_type": ["support_contact", "label"],
        }
    )
    before = closed_sessions(settings)
    write_archive_part(settings, calls)
    assert closed_sessions(settings).frame.equals(before.frame)


def write_archive_part(settings: Settings, events: pl.DataFrame) -> None:
    folder = settings.events_table / "event_date=2025-05-01"
    as_events(events).write_parquet(folder / "0000000001-00-00000000000000001000.parquet")


def test_of_two_first_events_at_one_instant_the_later_one_that_knows_counts(tmp_path: Path) -> None:
    sessions = closed_sessions(
        store(tmp_path, [("a", 0, None), ("a", 0, "GB-NG"), ("z", 90, None)])
    )
    assert sessions.frame["corridor"].to_list() == ["GB-NG"]
    again = [("a", 0, "GB-NG"), ("a", 0, "GB-IN"), ("a", 0, None), ("z", 90, None)]
    sessions = closed_sessions(store(tmp_path / "again", again))
    assert sessions.frame["corridor"].to_list() == ["GB-IN"]


def test_no_offline_store(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="stream events first: daima replay"):
        closed_sessions(settings_at(tmp_path))


def test_an_empty_window(tmp_path: Path) -> None:
    settings = store(tmp_path, ROWS)
    with pytest.raises(DatasetError, match="expected at least one event"):
        closed_sessions(settings, end=at(-5))
    with pytest.raises(DatasetError, match="expected a session that is over"):
        closed_sessions(settings, start=at(90))
    with pytest.raises(DatasetError, match="swap them"):
        closed_sessions(settings, start=at(10), end=at(0))


def test_a_naive_instant(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="an instant with time zone"):
        closed_sessions(settings_at(tmp_path), start=datetime(2025, 5, 1))  # noqa: DTZ001


def test_files_that_are_not_the_dataflows(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    settings.events_table.mkdir(parents=True)
    pl.DataFrame({"x": [1]}).write_parquet(settings.events_table / "x.parquet")
    with pytest.raises(DatasetError, match="receive_country"):
        closed_sessions(settings)


@pytest.mark.parametrize(
    ("rows", "minutes"),
    [
        # The first event came last.
        ([("a", 10, None), ("a", 20, None), ("a", 0, None)], [20.0]),
        # An event between came last and joined what had been two sessions.
        ([("a", 0, None), ("a", 40, None), ("a", 20, None)], [40.0]),
        # A repeated event is one.
        ([("a", 0, None), ("a", 5, None), ("a", 5, None)], [5.0]),
    ],
)
def test_sessions_are_those_of_all_events_whenever_they_came(
    tmp_path: Path, rows: list[Row], minutes: list[float]
) -> None:
    sessions = closed_sessions(store(tmp_path, [*rows, ("z", 400, None)]))
    found = sessions.frame.filter(pl.col("customer_id") == "a")
    assert (found["duration_s"] / 60).to_list() == minutes


def test_a_clock_that_runs_ahead_closes_nobody_elses_session(tmp_path: Path) -> None:
    rows = [("a", 0, None), ("b", 50, None), ("c", 110, None)]
    settings = store(tmp_path, rows)
    closed = closed_sessions(settings, now=at(60))
    assert closed.frame["customer_id"].to_list() == ["a"]
    assert closed.window_end == at(60)
    assert closed_sessions(settings, now=at(500)).frame["customer_id"].to_list() == ["a", "b"]
