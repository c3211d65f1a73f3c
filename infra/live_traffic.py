"""Live simulated traffic: what the crowd does now, published to the live log as it happens.

A label is published when it arrives: its event time is that of what it labels, days before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.contracts.events import OUTSIDE_SESSION, to_epoch_us
from infra.simulate import Crowd
from streaming.mapping.event_file import log_times_us

if TYPE_CHECKING:
    from streaming.log.valkey_streams import ValkeyLog

# Half a second of delay at most, and few small frames.
TICK = timedelta(milliseconds=500)
AHEAD = timedelta(hours=6)
_HISTORY_FRAME_ROWS = 8_192


class LiveTraffic:
    """Publishes a crowd's events to the log when they happen, in a thread of its own.

    Windows are simulated ahead, `AHEAD` at a time; windows of one crowd fit together, so nothing
    is published twice and nothing is missing in between.

    Args:
        crowd: who acts.
        log: where to.
        start: from when on; events that are due already are published at once.
        now: the clock.

    Attributes:
        published: events published so far.
        active: the customers of the last sessions' events, latest first.
        error: what ended the thread, if anything did.
    """

    def __init__(
        self,
        crowd: Crowd,
        log: ValkeyLog,
        start: datetime,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.published = 0
        self.active: list[str] = []
        self.error: Exception | None = None
        self._crowd = crowd
        self._log = log
        self._now = now
        self._simulated_to = start
        self._waiting: pa.Table | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live-traffic", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; returns once nothing is published any more."""
        self._stop.set()
        self._thread.join(timeout=10)

    def publish_due(self) -> int:
        """Publish what is due now; returns the number of events."""
        now = self._now()
        count = 0
        while True:
            if self._waiting is None:
                if self._simulated_to > now:
                    return count
                end = max(now, self._simulated_to) + AHEAD
                self._waiting = self._crowd.act(self._simulated_to, end).events
                self._simulated_to = end
            due = int(np.searchsorted(log_times_us(self._waiting), to_epoch_us(now), side="right"))
            if due:
                rows = self._waiting.slice(0, due).combine_chunks()
                for batch in rows.to_batches(_HISTORY_FRAME_ROWS):
                    count += self._log.append(batch)
                latest = _in_sessions(rows.slice(max(0, due - 200)))[-50:]
                self.active = list(dict.fromkeys([*reversed(latest), *self.active]))[:50]
            if due < self._waiting.num_rows:
                self._waiting = self._waiting.slice(due)
                return count
            self._waiting = None

    def _run(self) -> None:
        try:
            while not self._stop.wait(TICK.total_seconds()):
                self.published += self.publish_due()
        except Exception as error:  # shown by the main thread, which watches `error`
            self.error = error


def _in_sessions(events: pa.Table) -> list[str]:
    """The customers of events of sessions, in their order."""
    outside = pc.is_in(events.column("event_type"), pa.array(sorted(OUTSIDE_SESSION)))
    customers: list[str] = events.filter(pc.invert(outside)).column("customer_id").to_pylist()
    return customers


def publish_history(
    events: pa.Table, log: ValkeyLog, progress: Callable[[int], None] = lambda events: None
) -> int:
    """Publish a history, in its order, before the live traffic begins; returns its events."""
    count = 0
    for batch in events.combine_chunks().to_batches(_HISTORY_FRAME_ROWS):
        done = log.append(batch)
        count += done
        progress(done)
    return count
