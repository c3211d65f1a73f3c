"""Small, readable event batches for the streaming tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.contracts.events import Event, EventType, events_to_batch
from feature_repo.contracts.money import ExchangeRates

START = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)


def page_view(number: int, customer: str = "c1", at: datetime | None = None) -> Event:
    """The n-th event: by default n minutes after START."""
    return Event(
        event_id=f"e{number}",
        event_time=at or START + timedelta(minutes=number),
        customer_id=customer,
        event_type=EventType.PAGE_VIEW,
        page=f"page_{number % 4}",
        channel="app",
    )


def payment(number: int, customer: str = "c1", amount_minor: int = 10_000) -> Event:
    """A payment in pounds, n minutes after START."""
    return Event(
        event_id=f"e{number}",
        event_time=START + timedelta(minutes=number),
        customer_id=customer,
        event_type=EventType.PAYMENT_SUBMITTED,
        send_country="GB",
        receive_country="NG",
        amount_minor=amount_minor,
        fee_minor=299,
        currency="GBP",
    )


def batch_of(events: list[Event]) -> pa.RecordBatch:
    """The events as ingestion hands them on, reference amounts included."""
    return ExchangeRates().with_reference_amounts(events_to_batch(events))


def write_events(events: list[Event], path: Path) -> Path:
    """An event file, as `daima replay` makes one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_batches([batch_of(events)]), path)
    return path
