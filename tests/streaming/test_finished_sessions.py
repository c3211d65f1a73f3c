"""Sessions as they finish: by the log's time or the clock, once, and from where to go on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from feature_repo.contracts.events import EventType
from streaming.finished_sessions import GAP_US, FinishedSession, FinishedSessions

MINUTE = 60_000_000
START = 1_700_000_000_000_000


def row(customer: str, minute: float, kind: str = "page_view", **more: Any) -> dict[str, Any]:
    """An event so many minutes after the start."""
    return {
        "customer_id": customer,
        "event_id": f"{customer}-{minute}-{kind}",
        "event_time": START + int(minute * MINUTE),
        "event_type": kind,
        "page": "home",
        "amount_ref_minor": None,
        "send_country": "GB",
        "receive_country": "NG",
        **more,
    }


def frame(*rows: dict[str, Any]) -> pa.RecordBatch:
    types = {
        "event_time": pa.timestamp("us", "UTC"),
        "amount_ref_minor": pa.int64(),
    }
    names = list(row("c", 0))
    return pa.record_batch(
        [pa.array([each[name] for each in rows], types.get(name, pa.string())) for name in names],
        names=names,
    )


def spans(found: list[FinishedSession]) -> list[tuple[str, float, float, int]]:
    """Customer, first and last minute, and events, of each."""
    return [
        (
            each.customer,
            (int(each.session.start_us[0]) - START) / MINUTE,
            (int(each.session.end_us[0]) - START) / MINUTE,
            len(each.session.time_us),
        )
        for each in found
    ]


def test_half_an_hour_of_the_logs_own_silence_ends_a_session() -> None:
    sessions = FinishedSessions()
    sessions.take(frame(row("a", 0), row("b", 1), row("a", 3)), 2)
    assert sessions.finished() == []
    sessions.take(frame(row("b", 31), row("c", 33.0)), 4)
    assert sessions.finished() == [], "exactly half an hour is not over"
    sessions.take(frame(row("c", 33.1)), 5)
    assert spans(sessions.finished()) == [("a", 0, 3, 2)]
    # The next event of the same customer ends the one before, too.
    sessions.take(frame(row("b", 90)), 6)
    assert spans(sessions.finished()) == [("b", 1, 31, 2), ("c", 33.0, 33.1, 2)]
    assert sessions.open == 1


def test_the_clock_ends_sessions_of_a_live_log_alone() -> None:
    sessions = FinishedSessions()
    sessions.take(frame(row("a", 0)), 0)
    assert sessions.finished(START + GAP_US) == []
    assert spans(sessions.finished(START + GAP_US + 1)) == [("a", 0, 0, 1)]
    replayed = FinishedSessions()
    replayed.take(frame(row("a", 0)), 0)
    assert replayed.finished(START + 100 * GAP_US) == [], "a year-old log goes by its own time"


def test_what_belongs_to_no_session_neither_begins_nor_prolongs_one() -> None:
    sessions = FinishedSessions()
    labels = [row("a", 20, kind=kind) for kind in (EventType.LABEL, EventType.SUPPORT_CONTACT)]
    sessions.take(frame(row("a", 0), *labels, row("b", 10, kind=EventType.FRAUD_REPORTED)), 3)
    assert sessions.open == 1
    assert spans(sessions.finished(START + GAP_US + 1)) == [("a", 0, 0, 1)]


def test_a_balance_comes_with_its_session_and_makes_none() -> None:
    sessions = FinishedSessions()
    balance: dict[str, Any] = {"kind": EventType.FINANCIAL_SNAPSHOT, "amount_ref_minor": 12_345}
    sessions.take(frame(row("a", 0, **balance), row("a", 0.1), row("b", 0, **balance)), 2)
    (only,) = sessions.finished(START + 2 * GAP_US)
    assert only.customer == "a"
    assert only.session.snapshot_us.tolist() == [START]
    assert only.session.snapshot_balance.tolist() == [12_345.0]
    assert sessions.open == 0


def test_events_of_any_order_and_repeated_ones() -> None:
    sessions = FinishedSessions()
    sessions.take(frame(row("a", 2), row("a", 1), row("a", 2)), 2)
    (only,) = sessions.finished(START + 2 * GAP_US)
    assert spans([only]) == [("a", 1, 2, 2)]
    assert np.diff(only.session.time_us).min() > 0


def test_ten_thousand_events_are_one_session() -> None:
    sessions = FinishedSessions()
    sessions.take(frame(*(row("a", minute / 100) for minute in range(10_000))), 9_999)
    assert spans(sessions.finished(START + 200 * MINUTE)) == [("a", 0, 99.99, 10_000)]


def test_what_is_no_event_is_passed_over() -> None:
    sessions = FinishedSessions()
    sessions.take(pa.record_batch([pa.array(["x"])], names=["other"]), 0)
    sessions.take(frame(row("a", 0) | {"customer_id": None}), 1)
    assert sessions.open == 0
    assert sessions.position == 1


@pytest.mark.parametrize("seed", range(5))
def test_resumed_at_its_position_nothing_is_lost(seed: int) -> None:
    rng = np.random.default_rng(seed)
    minutes = np.cumsum(rng.exponential(4.0, 400))
    rows = [row(f"c{rng.integers(8)}", float(minute)) for minute in minutes]
    frames = [(at, frame(*rows[at : at + 7])) for at in range(0, len(rows), 7)]

    def read(sessions: FinishedSessions, after: int | None, until: int) -> list[FinishedSession]:
        found = []
        for at, each in frames:
            offset = at + len(each) - 1
            if (after is None or offset > after) and offset <= until:
                sessions.take(each, offset)
                found += sessions.finished()
        return found

    whole = read(FinishedSessions(), None, len(rows))
    stop = int(rng.integers(100, 300))
    first = FinishedSessions()
    before = read(first, None, stop)
    # Killed here: what was open comes again, and some that was finished.
    again = read(FinishedSessions(first.position), first.position, len(rows))
    assert {*spans(before), *spans(again)} >= set(spans(whole))
    # What the rest of the log makes of sessions cut by the resumption begins no earlier.
    for customer, start, _, _ in set(spans(again)) - set(spans(whole)):
        ends = [end for whose, _, end, _ in spans(before) if whose == customer]
        assert start <= max(ends), "told by its start: it was taken in before"
