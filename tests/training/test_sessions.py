"""Closed sessions: what is an example, and what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.settings import Settings
from tests.training.sessions import settings_at
from training.sessions import closed_sessions

NOON = datetime(2025, 5, 1, 12, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def store(home: Path, rows: Sequence[tuple[str, float, float, str | None]]) -> Settings:
    """Rows of (customer, minute, minute of the session's start, corridor)."""
    settings = settings_at(home)
    folder = settings.stream_table / "event_date=2025-05-01"
    folder.mkdir(parents=True)
    pl.DataFrame(
        {
            "customer_id": [row[0] for row in rows],
            "event_timestamp": pl.Series(
                [at(row[1]) for row in rows], dtype=pl.Datetime("us", "UTC")
            ),
            "session_start_us": [int(at(row[2]).timestamp() * 1e6) for row in rows],
            "session_duration_s": [(row[1] - row[2]) * 60.0 for row in rows],
            "session_corridor": pl.Series([row[3] for row in rows], dtype=pl.String),
        }
    ).write_parquet(folder / "rows.parquet")
    return settings


ROWS = [
    ("a", 0, 0, None),
    ("a", 10, 0, "GB-NG"),
    ("b", 5, 5, "GB-IN"),
    ("a", 100, 100, "GB-NG"),
    ("c", 115, 115, None),
    ("c", 125, 115, None),
]


def test_a_session_is_one_example_at_its_first_event(tmp_path: Path) -> None:
    sessions = closed_sessions(store(tmp_path, [*ROWS, ("z", 400, 400, None)]))
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
    assert (sessions.open, sessions.headless, sessions.events) == (1, 0, 7)


def test_sessions_that_may_still_go_on_are_left_out(tmp_path: Path) -> None:
    sessions = closed_sessions(store(tmp_path, ROWS))
    assert sessions.window_end == at(125)
    assert sessions.frame["event_timestamp"].to_list() == [at(0), at(5)]
    assert sessions.open == 2


def test_what_comes_after_the_end_is_not_known(tmp_path: Path) -> None:
    settings = store(tmp_path, [*ROWS, ("z", 400, 400, None)])
    early = closed_sessions(settings, end=at(35))
    assert early.frame["customer_id"].to_list() == ["b"]  # a's is known to be over at minute 40
    assert early.window_end == at(35)
    assert early.events == 3
    # A label that arrives exactly at the end counts.
    assert closed_sessions(settings, end=at(40)).frame.height == 2
    assert closed_sessions(settings, end=at(9_999)).window_end == at(400)


def test_sessions_start_within_the_window(tmp_path: Path) -> None:
    settings = store(tmp_path, [*ROWS, ("z", 400, 400, None)])
    late = closed_sessions(settings, start=at(5))
    assert late.frame["event_timestamp"].to_list() == [at(5), at(100), at(115)]
    assert late.window_start == at(5)


def test_a_session_without_its_first_event_is_counted_and_left_out(tmp_path: Path) -> None:
    sessions = closed_sessions(
        store(tmp_path, [("h", 10, 0, None), ("b", 5, 5, None), ("z", 90, 90, None)])
    )
    assert sessions.frame["customer_id"].to_list() == ["b"]
    assert sessions.headless == 1


def test_of_two_first_events_at_one_instant_the_later_stored_counts(tmp_path: Path) -> None:
    sessions = closed_sessions(
        store(tmp_path, [("a", 0, 0, None), ("a", 0, 0, "GB-NG"), ("z", 90, 90, None)])
    )
    assert sessions.frame["corridor"].to_list() == ["GB-NG"]


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
    settings.stream_table.mkdir(parents=True)
    pl.DataFrame({"x": [1]}).write_parquet(settings.stream_table / "x.parquet")
    with pytest.raises(DatasetError, match="session_start_us"):
        closed_sessions(settings)


@pytest.mark.parametrize(
    ("rows", "minutes"),
    [
        # The first event came last: the others' rows were written with a later start.
        ([("a", 10, 10, None), ("a", 20, 10, None), ("a", 0, 0, None)], [20.0]),
        # An event between came last and joined what had been two sessions.
        ([("a", 0, 0, None), ("a", 40, 40, None), ("a", 20, 0, None)], [40.0]),
        # A repeated row is one event.
        ([("a", 0, 0, None), ("a", 5, 0, None), ("a", 5, 0, None)], [5.0]),
    ],
)
def test_sessions_are_those_of_all_events_whenever_they_came(
    tmp_path: Path, rows: list[tuple[str, float, float, str | None]], minutes: list[float]
) -> None:
    sessions = closed_sessions(store(tmp_path, [*rows, ("z", 400, 400, None)]))
    found = sessions.frame.filter(pl.col("customer_id") == "a")
    assert (found["duration_s"] / 60).to_list() == minutes
    assert sessions.headless == 0


def test_a_clock_that_runs_ahead_closes_nobody_elses_session(tmp_path: Path) -> None:
    rows = [("a", 0, 0, None), ("b", 50, 50, None), ("c", 110, 110, None)]
    settings = store(tmp_path, rows)
    closed = closed_sessions(settings, now=at(60))
    assert closed.frame["customer_id"].to_list() == ["a"]
    assert closed.window_end == at(60)
    assert closed_sessions(settings, now=at(500)).frame["customer_id"].to_list() == ["a", "b"]
