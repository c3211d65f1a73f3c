"""Live traffic: every event of the crowd once, at its time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from feature_repo.contracts.events import OUTSIDE_SESSION
from infra.live_traffic import LiveTraffic, publish_history
from infra.simulate import Crowd

START = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
CROWD = Crowd(customers=300, seed=5)


class ListLog:
    """A log that keeps what it is given."""

    def __init__(self) -> None:
        self.batches: list[pa.RecordBatch] = []

    def append(self, events: pa.RecordBatch) -> int:
        self.batches.append(events)
        return len(events)

    def ids(self) -> list[str]:
        return [item for batch in self.batches for item in batch.column("event_id").to_pylist()]


@pytest.fixture(scope="module")
def expected() -> list[tuple[str, datetime]]:
    """Ids of the crowd's events over 14 hours, as one simulation draws them, and when each is due.

    Labels are due when they arrive.
    """
    events = CROWD.act(START, START + timedelta(hours=14)).events
    due = pc.coalesce(events.column("label_arrival_time"), events.column("event_time"))
    assert events.column("label_value").null_count < events.num_rows
    return list(zip(events.column("event_id").to_pylist(), due.to_pylist(), strict=True))


def test_each_event_is_published_once_when_it_is_due(
    expected: list[tuple[str, datetime]],
) -> None:
    log, now = ListLog(), START
    traffic = LiveTraffic(CROWD, log, START, lambda: now)  # type: ignore[arg-type]
    # Ticks across two windows of six hours, one of them longer than a window (a sleeping laptop).
    for hours in (0.01, 1, 2.5, 5.99, 6.01, 13):
        now = START + timedelta(hours=hours)
        traffic.publish_due()
        assert log.ids() == [event for event, time in expected if time <= now]
    # A label or a call does not make its customer active.
    last = log.batches[-1].to_pylist()
    inside = [row["customer_id"] for row in last if row["event_type"] not in OUTSIDE_SESSION]
    assert len(inside) < len(last)
    assert traffic.active[0] == inside[-1]


def test_a_history_is_published_whole_and_in_order() -> None:
    log = ListLog()
    events = CROWD.act(START, START + timedelta(days=3)).events
    done: list[int] = []
    assert publish_history(events, log, done.append) == events.num_rows == sum(done)  # type: ignore[arg-type]
    assert log.ids() == events.column("event_id").to_pylist()


def test_what_ends_the_thread_is_kept() -> None:
    class BrokenLog(ListLog):
        def append(self, events: pa.RecordBatch) -> int:
            raise ConnectionError("store gone")

    now = START + timedelta(hours=12)
    traffic = LiveTraffic(CROWD, BrokenLog(), START, lambda: now)  # type: ignore[arg-type]
    traffic.start()
    traffic._thread.join(timeout=30)
    assert isinstance(traffic.error, ConnectionError)
    traffic.stop()
