"""The evaluator against the two-loop oracle, with late, duplicate and out-of-order events."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.contracts.errors import DaimaError
from feature_repo.contracts.events import (
    OUTSIDE_SESSION,
    Event,
    EventType,
    events_to_batch,
    to_epoch_us,
)
from feature_repo.contracts.features import STREAM_FEATURES
from feature_repo.contracts.money import ExchangeRates
from feature_repo.engine.shard import ALLOWED_LATENESS, Shard
from tests.feature_repo.engine.oracle import Row, features_at

RATES = ExchangeRates()
START = datetime(2026, 3, 1, tzinfo=UTC)
NAMES = [feature.name for feature in STREAM_FEATURES]

# Gaps on and around the borders of sessions and windows, ties included.
GAPS_S = st.sampled_from([0, 1, 60, 299, 300, 301, 1799, 1800, 1801, 3600, 86_400, 7 * 86_400])


@st.composite
def event_lists(draw: st.DrawFn) -> list[Event]:
    """Events of three customers in event-time order, some with repeated ids."""
    events: list[Event] = []
    instant = START
    for number in range(draw(st.integers(1, 24))):
        instant += timedelta(seconds=draw(GAPS_S), microseconds=draw(st.integers(0, 1)))
        kind = draw(st.sampled_from(list(EventType)))
        amount = draw(st.none() | st.integers(0, 10**7)) if kind is not EventType.LABEL else None
        repeat = draw(st.booleans()) and draw(st.booleans()) and events
        events.append(
            Event(
                event_id=events[-1].event_id if repeat else f"e{number}",
                event_time=instant,
                customer_id=events[-1].customer_id if repeat else draw(st.sampled_from("abc")),
                event_type=kind,
                page=draw(st.none() | st.sampled_from(["home", "send", "help"])),
                send_country=draw(st.none() | st.just("GB")),
                receive_country=draw(st.sampled_from(["NG", "KE"])),
                amount_minor=amount,
                fee_minor=None if amount is None else 199,
                currency=None if amount is None else "USD",
                channel=draw(st.none() | st.sampled_from(["app", "web"])),
                device=draw(st.none() | st.sampled_from(["ios", "android"])),
            )
        )
    return events


def batch_of(events: list[Event]) -> pa.RecordBatch:
    return RATES.with_reference_amounts(events_to_batch(events))


def fold_all(events: list[Event], batch_rows: int) -> tuple[list[Row], dict[str, Row]]:
    """Rows by event, and the latest row of each customer, from batches of a given size."""
    shard = Shard()
    rows: list[Row] = []
    latest: dict[str, Row] = {}
    for first in range(0, len(events), batch_rows):
        changed = shard.fold(batch_of(events[first : first + batch_rows]))
        if changed is not None:
            rows += changed.events.to_pylist()
            latest |= {row["customer_id"]: row for row in changed.latest.to_pylist()}
    return rows, latest


def check_row(row: Row, expected: Row) -> None:
    assert {name: row[name] for name in NAMES} == {
        name: pytest.approx(expected[name], rel=1e-9)
        if isinstance(expected[name], float)
        else expected[name]
        for name in NAMES
    }


def session_customers(events: list[Event]) -> set[str]:
    return {event.customer_id for event in events if event.event_type not in OUTSIDE_SESSION}


@settings(max_examples=150, deadline=None)
@given(events=event_lists())
def test_every_event_row_equals_the_oracle(events: list[Event]) -> None:
    rows, _ = fold_all(events, batch_rows=len(events))
    distinct = {e.event_id for e in events if e.event_type not in OUTSIDE_SESSION}
    assert [row["event_id"] for row in rows] == list(
        dict.fromkeys(e.event_id for e in events if e.event_id in distinct and _counts(e, events))
    )
    for row in rows:
        instant_us = to_epoch_us(row["event_timestamp"])
        check_row(row, features_at(events, row["customer_id"], instant_us))


def _counts(event: Event, events: list[Event]) -> bool:
    """Whether an event is the first session event of its id."""
    same = [e for e in events if e.event_id == event.event_id]
    return next((e for e in same if e.event_type not in OUTSIDE_SESSION), None) is event


@settings(max_examples=150, deadline=None)
@given(events=event_lists(), batch_rows=st.integers(1, 8), data=st.data())
def test_arrival_out_of_order_ends_in_the_same_state(
    events: list[Event], batch_rows: int, data: st.DataObject
) -> None:
    """Within the lateness, in batches of any size: late rows are right, and so is the end."""
    distinct = list({event.event_id: event for event in reversed(events)}.values())
    distinct.sort(key=lambda event: event.event_time)
    # No two at one instant: tied events keep their order of arrival, which differs here.
    distinct = [
        msgspec.structs.replace(event, event_time=event.event_time + timedelta(microseconds=2 * n))
        for n, event in enumerate(distinct)
    ]
    arrived: list[Event] = []
    while distinct:
        # Whoever comes next is at most a day older than the newest that has come.
        newest = max((event.event_time for event in arrived), default=distinct[0].event_time)
        allowed = newest - ALLOWED_LATENESS
        overdue = [e for e in distinct if e.event_time - allowed < timedelta(hours=2)]
        chosen = data.draw(st.sampled_from(overdue[:1] or distinct[:6]))
        distinct.remove(chosen)
        if chosen.event_time > allowed:
            arrived.append(chosen)
    rows, latest = fold_all(arrived, batch_rows)
    assert set(latest) == session_customers(arrived)
    for customer, row in latest.items():
        check_row(row, features_at(arrived, customer, to_epoch_us(row["event_timestamp"])))
    # A late event's own row counts what had arrived with it or before.
    places = {event.event_id: place for place, event in enumerate(arrived)}
    for row in rows:
        batch_end = (places[row["event_id"]] // batch_rows + 1) * batch_rows
        instant_us = to_epoch_us(row["event_timestamp"])
        check_row(row, features_at(arrived[:batch_end], row["customer_id"], instant_us))


def test_a_late_event_joins_sessions_that_looked_settled() -> None:
    """The session before the joined ones is remembered, though two newer ones stood after it."""
    first = [_view(n, START + timedelta(minutes=5 * n)) for n in range(2)]
    now = START + timedelta(days=20)
    later = [_view(2, now - timedelta(minutes=40)), _view(3, now)]
    for late in (now - timedelta(minutes=20), now - timedelta(hours=10)):
        shard = Shard()
        events = [*first, *later, _view(4, late)]
        shard.fold(batch_of(first))
        shard.fold(batch_of(later))
        changed = shard.fold(batch_of(events[-1:]))
        assert changed is not None
        for row, instant in ((changed.latest, now), (changed.events, late)):
            check_row(row.to_pylist()[0], features_at(events, "a", to_epoch_us(instant)))


def test_an_event_id_belongs_to_its_customer() -> None:
    both = [_view(0, START), msgspec.structs.replace(_view(0, START), customer_id="b")]
    for batches in ([both], [both[:1], both[1:]]):
        shard = Shard()
        changed = [shard.fold(batch_of(batch)) for batch in batches]
        assert sum(len(rows.events) for rows in changed if rows) == 2
        again = shard.fold(batch_of(both))
        assert again is not None
        assert (len(again.events), again.duplicates) == (0, 2)


def test_a_restored_shard_goes_on_as_if_nothing_had_happened() -> None:
    events = [_view(number, START + timedelta(minutes=10 * number)) for number in range(20)]
    whole, halved = Shard(), Shard()
    whole.fold(batch_of(events[:10]))
    halved.fold(batch_of(events[:10]))
    restored = Shard.restore(pickle.loads(pickle.dumps(halved.snapshot())))  # noqa: S301
    expected, found = (shard.fold(batch_of(events[10:])) for shard in (whole, restored))
    assert expected is not None
    assert found is not None
    assert found.events.equals(expected.events)
    assert found.latest.equals(expected.latest)


def test_a_snapshot_of_other_features_is_refused() -> None:
    snapshot: dict[str, Any] = Shard().snapshot() | {"features": ["something_else"]}
    with pytest.raises(DaimaError, match="replay the events"):
        Shard.restore(snapshot)


def test_a_snapshot_is_not_changed_by_later_events() -> None:
    shard = Shard()
    shard.fold(batch_of([_view(0, START)]))
    snapshot = shard.snapshot()
    before = pickle.dumps(snapshot)
    shard.fold(batch_of([_view(1, START + timedelta(seconds=1))]))
    assert pickle.dumps(snapshot) == before


def test_old_sessions_are_forgotten_but_never_cut() -> None:
    shard = Shard()
    for day in range(40):
        events = [_view(2 * day + i, START + timedelta(days=day, minutes=i)) for i in range(2)]
        shard.fold(batch_of(events))
    kept = len(shard.snapshot()["history"]["time"])
    # 7 days of windows and 1 day of lateness, in sessions of two events a day.
    assert 2 * 8 <= kept <= 2 * 9


def test_the_session_before_is_remembered_however_long_ago_it_was() -> None:
    shard = Shard()
    long_ago = [_view(number, START + timedelta(minutes=number)) for number in range(3)]
    today = [_view(3 + n, START + timedelta(days=60, minutes=n)) for n in range(2)]
    row = None
    for events in (long_ago, today[:1], today[1:]):
        row = shard.fold(batch_of(events))
    assert row is not None
    check_row(
        row.latest.to_pylist()[0],
        features_at(long_ago + today, "a", to_epoch_us(today[-1].event_time)),
    )


def test_calls_and_labels_alone_change_nothing() -> None:
    label = Event(
        event_id="l",
        event_time=START,
        customer_id="a",
        event_type=EventType.LABEL,
        label_event_id="e",
        label_value=1.0,
    )
    assert Shard().fold(batch_of([label])) is None


def _view(number: int, instant: datetime) -> Event:
    return Event(
        event_id=f"e{number}",
        event_time=instant,
        customer_id="a",
        event_type=EventType.PAGE_VIEW,
        page=f"p{number % 3}",
    )
