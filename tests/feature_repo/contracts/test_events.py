from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from feature_repo.contracts.errors import EventError
from feature_repo.contracts.events import EVENT_SCHEMA, Event, EventType, events_to_batch

GOOD: dict[str, Any] = {
    "event_id": "e1",
    "event_time": datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC),
    "customer_id": "c1",
    "event_type": EventType.PAYMENT_SUBMITTED,
    "send_country": "GB",
    "receive_country": "NG",
    "amount_minor": 10_000,
    "fee_minor": 299,
    "currency": "GBP",
    "ip_country": "GB",
}


def test_a_good_event_is_itself() -> None:
    event = Event(**GOOD)
    assert event.validated() is event
    assert event.corridor == "GB-NG"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("event_id", "", "non-empty"),
        ("customer_id", "", "non-empty"),
        ("event_time", datetime(2026, 3, 1), "time zone"),  # noqa: DTZ001  (that is the point)
        ("event_time", datetime(1970, 1, 18, tzinfo=UTC), "check the time unit"),
        ("event_time", datetime(2100, 1, 1, tzinfo=UTC), "check the time unit"),
        ("send_country", "United Kingdom", "two-letter"),
        ("receive_country", "ng", "two-letter"),
        ("ip_country", "G", "two-letter"),
        ("amount_minor", -1, "minor units"),
        ("fee_minor", 10**16, "minor units"),
        ("currency", None, "beside amount_minor"),
        ("currency", "pounds", "ISO 4217"),
        ("event_type", EventType.LABEL, "label_value"),
    ],
)
def test_what_does_not_fit_is_named(field: str, value: object, message: str) -> None:
    with pytest.raises(EventError, match=message):
        Event(**GOOD | {field: value}).validated()


def test_an_unknown_type_does_not_decode() -> None:
    text = (
        b'{"event_id":"e","event_time":"2026-03-01T00:00:00Z","customer_id":"c","event_type":"x"}'
    )
    with pytest.raises(msgspec.ValidationError, match="event_type"):
        msgspec.json.decode(text, type=Event)


def test_events_become_a_batch_of_the_schema_and_lose_nothing() -> None:
    events = [Event(**GOOD), Event(**GOOD | {"event_id": "e2", "page": "home"})]
    batch = events_to_batch(events)
    assert batch.schema.equals(EVENT_SCHEMA)
    for row, event in zip(batch.to_pylist(), events, strict=True):
        for field in Event.__struct_fields__:
            assert row[field] == getattr(event, field)
