"""Sessions of a log as they finish: events gathered by customer until half an hour of silence.

A session is over when no event of its customer has come for `SESSION_GAP`, by the log's own time;
where the log is live and has been read to its end, by the clock: nobody's last session waits for
somebody else's next event. An event that comes after its session was over begins another one:
whoever takes sessions in order tells it by its start, and the recomputation puts it right. So it is
with a balance that comes outside of any session.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.contracts.events import OUTSIDE_SESSION, EventType
from feature_repo.contracts.features import SESSION_GAP
from feature_repo.scoring.embedding_sessions import SessionEvent, Sessions

GAP_US = int(SESSION_GAP.total_seconds() * 1_000_000)
# A log whose newest event is older than this is a replay: the clock says nothing about it.
LIVE_US = 24 * 3_600 * 1_000_000
_COLUMNS = (
    "customer_id",
    "event_id",
    "event_time",
    "event_type",
    "page",
    "amount_ref_minor",
    "send_country",
    "receive_country",
)
_OUTSIDE = {str(kind) for kind in OUTSIDE_SESSION}


@dataclass(frozen=True)
class FinishedSession:
    """One session that is over.

    Attributes:
        customer: whose.
        session: its events, with the snapshots since the session before.
    """

    customer: str
    session: Sessions


@dataclass
class _Open:
    """What has come of a customer and is not over."""

    # Where the partition stood before the first of it: reading resumed there brings all of it.
    before: int | None
    events: list[SessionEvent] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    snapshots: list[tuple[int, float]] = field(default_factory=list)
    newest_us: int = 0


class FinishedSessions:
    """Gathers one partition's events into sessions.

    Memory grows with the customers of the last half hour, not with the log.

    Args:
        position: where reading of the partition resumes, None at its beginning.
    """

    def __init__(self, position: int | None = None) -> None:
        self._open: dict[str, _Open] = {}
        self._read = position
        self._newest_us = 0
        self._over: list[FinishedSession] = []

    def take(self, events: pa.RecordBatch, offset: int) -> None:
        """Take in a frame of the log, whose last event stands at `offset`."""
        for customer, kind, event_id, event in _events(events):
            self._newest_us = max(self._newest_us, event.time_us)
            waiting = self._open.get(customer)
            if waiting is not None and self._is_over(waiting, event.time_us):
                self._close(customer, waiting)
                waiting = None
            if waiting is None:
                waiting = self._open[customer] = _Open(self._read)
            if event_id in waiting.ids:
                continue
            waiting.ids.add(event_id)
            waiting.newest_us = max(waiting.newest_us, event.time_us)
            if kind != EventType.FINANCIAL_SNAPSHOT:
                waiting.events.append(event)
            elif event.amount_ref_minor is not None:
                waiting.snapshots.append((event.time_us, event.amount_ref_minor))
        self._read = offset

    def finished(self, now_us: int | None = None) -> list[FinishedSession]:
        """The sessions that are over, in the order in which they ended.

        Args:
            now_us: the clock, where the log has been read to its end; None where it has not.
        """
        until_us = self._newest_us
        if now_us is not None and now_us - self._newest_us <= LIVE_US:
            until_us = max(until_us, now_us)
        over = [
            (customer, waiting)
            for customer, waiting in self._open.items()
            if self._is_over(waiting, until_us)
        ]
        for customer, waiting in over:
            self._close(customer, waiting)
            del self._open[customer]
        found, self._over = self._over, []
        return sorted(found, key=lambda each: int(each.session.end_us[0]))

    @property
    def position(self) -> int | None:
        """Reading resumed here brings every event of the sessions that are not over."""
        open_ones = [waiting.before for waiting in self._open.values()]
        if None in open_ones:
            return None
        befores = [before for before in open_ones if before is not None]
        return min(befores, default=self._read)

    @property
    def open(self) -> int:
        """Customers of whom something is not over."""
        return len(self._open)

    @staticmethod
    def _is_over(waiting: _Open, at_us: int) -> bool:
        return at_us - waiting.newest_us > GAP_US

    def _close(self, customer: str, waiting: _Open) -> None:
        if not waiting.events:  # a balance without a session
            return
        events = sorted(waiting.events, key=lambda event: event.time_us)
        snapshots = sorted(each for each in waiting.snapshots if each[0] <= events[-1].time_us)
        self._over.append(FinishedSession(customer, Sessions.of(events, snapshots)))


def _events(frame: pa.RecordBatch) -> Iterator[tuple[str, str, str, SessionEvent]]:
    """Customer, type, id and event, of those that belong to sessions, and of balances."""
    if not set(_COLUMNS) <= set(frame.schema.names):
        return
    chosen = frame.select(list(_COLUMNS))
    aside = _OUTSIDE - {str(EventType.FINANCIAL_SNAPSHOT)}
    kept = pc.invert(pc.is_in(chosen.column("event_type"), pa.array(sorted(aside))))
    whole = pc.and_(chosen.column("customer_id").is_valid(), chosen.column("event_time").is_valid())
    chosen = chosen.filter(pc.and_(pc.fill_null(kept, False), whole))
    columns = [chosen.column(name).to_pylist() for name in _COLUMNS if name != "event_time"]
    times = np.asarray(chosen.column("event_time").cast(pa.int64())).tolist()
    customers, ids, kinds, pages, amounts, sends, receives = columns
    for customer, event_id, time_us, kind, page, amount, send, receive in zip(
        customers, ids, times, kinds, pages, amounts, sends, receives, strict=True
    ):
        yield customer, kind, event_id, SessionEvent(time_us, kind, page, amount, send, receive)
