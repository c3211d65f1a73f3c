from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from feature_repo.contracts.events import EVENT_SCHEMA, Event, EventType
from streaming.log.json_events import decode_events, encode_events
from tests.streaming.made_events import START, batch_of, page_view, payment

GOOD: dict[str, Any] = {
    "event_id": "e1",
    "event_time": "2026-03-01T23:30:00.000001Z",
    "customer_id": "c1",
    "event_type": "page_view",
}


def decoded(*texts: bytes) -> list[pa.RecordBatch | str]:
    return [events for _, events in decode_events(texts)]


def one(**fields: Any) -> pa.RecordBatch | str:
    (events,) = decoded(json.dumps(GOOD | fields).encode())
    return events


def test_events_come_back_as_they_were() -> None:
    label = Event(
        event_id="l1",
        event_time=START,
        customer_id='日本\n"c",',
        page=',"page":null,',
        device='","device":null}',
        event_type=EventType.LABEL,
        label_event_id="e1",
        label_value=0.1,
        label_arrival_time=START,
    )
    events = batch_of([page_view(0), payment(1, amount_minor=10**15 - 1), label])
    (result,) = decoded(*encode_events(events))
    assert isinstance(result, pa.RecordBatch)
    assert result.schema.equals(EVENT_SCHEMA)
    assert result.equals(events.cast(EVENT_SCHEMA))
    assert encode_events(events.slice(0, 0)) == []
    assert decoded()[0].num_rows == 0  # type: ignore[union-attr]


def test_a_projection_comes_back_with_nulls_for_the_rest() -> None:
    (result,) = decoded(*encode_events(batch_of([payment(0)]).drop_columns(["customer_id"])))
    assert isinstance(result, pa.RecordBatch)
    assert result.column("customer_id").to_pylist() == [None]
    assert result.column("event_id").to_pylist() == ["e0"]


@pytest.mark.parametrize(
    ("instant", "us"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000),
        ("1970-01-01T00:00:01.000001Z", 1_000_001),
        ("1970-01-01T02:00:01+02:00", 1_000_000),
        (1_772_408_400_000_001, 1_772_408_400_000_001),
    ],
)
def test_instants_are_iso_texts_with_a_zone_or_microseconds(instant: Any, us: int) -> None:
    events = one(event_time=instant)
    assert isinstance(events, pa.RecordBatch)
    assert events.column("event_time").cast(pa.int64()).to_pylist() == [us]


def test_integers_are_exact() -> None:
    events = one(amount_minor=9_007_199_254_740_993)
    assert isinstance(events, pa.RecordBatch)
    assert events.column("amount_minor").to_pylist() == [9_007_199_254_740_993]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(GOOD | {"amount_minor": 1.5}).encode(),
        json.dumps(GOOD | {"amount_minor": "5"}).encode(),
        json.dumps(GOOD | {"amount_minor": 2**63}).encode(),
        json.dumps(GOOD | {"amount_minor": True}).encode(),
        json.dumps(GOOD | {"event_id": 7}).encode(),
        json.dumps(GOOD | {"event_time": "2026-03-01T23:30:00"}).encode(),  # no zone
        json.dumps(GOOD | {"event_time": "yesterday"}).encode(),
        json.dumps(GOOD | {"event_time": 1.5}).encode(),
        json.dumps(GOOD).encode()[:-1],
        json.dumps(GOOD).encode() + b"x",
        json.dumps(GOOD).encode() * 2,
        json.dumps(GOOD).encode() + b"\n" + json.dumps(GOOD).encode(),
        b'{"event_id": "\xff"}',
        b"[]",
        b"7",
        b"null",
        b"",
        b"  ",
        b"\n",
    ],
)
def test_bad_texts_are_found_among_good_ones(text: bytes) -> None:
    good = encode_events(batch_of([page_view(number) for number in range(20)]))
    found = list(decode_events([*good[:7], text, *good[7:]]))
    assert sum(count for count, _ in found) == 21
    bad = [events for _, events in found if isinstance(events, str)]
    assert len(bad) == 1
    assert "a JSON object with the fields of an event" in bad[0]
    ids = [
        name
        for _, events in found
        if not isinstance(events, str)
        for name in events.column("event_id").to_pylist()
    ]
    assert ids == [f"e{number}" for number in range(20)]
    before = 0
    for count, events in found:  # its place is right
        if isinstance(events, str):
            assert before == 7
        before += count


def test_layout_and_unknown_fields_do_not_matter() -> None:
    laid_out = json.dumps(GOOD | {"unknown": {"x": [1]}}, indent=2).encode()
    plain = json.dumps(GOOD).encode()
    events = [row for part in decoded(laid_out, b" " + plain, plain + b"\n") for row in rows(part)]
    assert [row["event_id"] for row in events] == ["e1", "e1", "e1"]


def test_texts_and_numbers_of_instants_may_mix() -> None:
    number = json.dumps(GOOD | {"event_time": 1_772_408_400_000_001}).encode()
    events = [row for part in decoded(number, json.dumps(GOOD).encode()) for row in rows(part)]
    assert len(events) == 2


def rows(part: pa.RecordBatch | str) -> list[dict[str, Any]]:
    assert isinstance(part, pa.RecordBatch)
    found: list[dict[str, Any]] = part.to_pylist()
    return found
