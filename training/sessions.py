"""Closed sessions from the archive of events: the examples of every model asked at a login.

One example a session, at its first event. What is known of it then comes from the feature join
(`training.dataset`); what it turned into, here, is the target.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.events import OUTSIDE_SESSION, EventType
from feature_repo.contracts.features import SESSION_GAP
from feature_repo.contracts.settings import Settings
from training.archive import check_window, remembered, scan_archive, shown, unreadable

_COLUMNS = (
    "customer_id",
    "event_id",
    "event_time",
    "event_type",
    "send_country",
    "receive_country",
    "amount_ref_minor",
    "fee_ref_minor",
)
_PAYABLE = [str(EventType.QUOTE), str(EventType.PAYMENT_SUBMITTED)]


@dataclass(frozen=True)
class Observed:
    """The sessions of a window, closed and open.

    Attributes:
        frame: one row a session, by time: the columns of `Sessions.frame`, `ended` (False:
            right-censored, it may still go on), `total_ref_minor` (total to pay: amount and fee
            of its last quote or payment; null without one).
        window_start, window_end, events: as in `Sessions`.
    """

    frame: pl.DataFrame
    window_start: datetime
    window_end: datetime
    events: int


@dataclass(frozen=True)
class Sessions:
    """The closed sessions of a window, and what was left out.

    Attributes:
        frame: one row a session, by time: customer_id, corridor (at the first event, null where
            unknown), event_timestamp (the first event, UTC µs), duration_s (first event to last),
            label_timestamp (when the session could first be known to be over).
        window_start: instant from which sessions start.
        window_end: instant up to which events were seen.
        events: session events read.
        open: sessions left out because they may still go on at `window_end` (right-censored).
    """

    frame: pl.DataFrame
    window_start: datetime
    window_end: datetime
    events: int
    open: int


def closed_sessions(
    settings: Settings,
    start: datetime | None = None,
    end: datetime | None = None,
    now: datetime | None = None,
) -> Sessions:
    """The sessions that start at or after `start` and are over by `end`, as known at `end`.

    Arguments and errors are `observed_sessions`'.

    Raises:
        DatasetError: no session is over, too.

    Trap: leaving out open sessions favours short ones within half an hour of the window's end.
    Over days that is negligible; the duration distributions must use censoring instead. Where
    the archive begins, a session may have begun before it.
    """
    found = observed_sessions(settings, start, end, now)
    closed = found.frame.filter("ended")
    if closed.is_empty():
        raise DatasetError(
            "window",
            shown(start, end),
            f"a session that is over ({SESSION_GAP} without an event)",
            f"widen it ({found.frame.height} sessions are still open at {found.window_end})",
        )
    return Sessions(
        frame=closed.select(
            "customer_id", "corridor", "event_timestamp", "duration_s", "label_timestamp"
        ),
        window_start=start or closed["event_timestamp"][0],
        window_end=found.window_end,
        events=found.events,
        open=found.frame.height - closed.height,
    )


def observed_sessions(
    settings: Settings,
    start: datetime | None = None,
    end: datetime | None = None,
    now: datetime | None = None,
) -> Observed:
    """The sessions that start at or after `start`, as known at `end`, open ones included.

    Events after `end` are not read, so a session's length never depends on what came later. A
    session is over once `SESSION_GAP` has passed without an event.

    Args:
        settings: where the archive lies.
        start: aware instant; None for the first event there is.
        end: aware instant; None, or an instant past the data, for the last event there is.
        now: the clock (default: the time of day).

    Raises:
        DatasetError: no archive, a naive or inverted window, or no event in it.
    """
    now = now or datetime.now(UTC)
    check_window(start, end)
    events, data_end = _read(settings, end)
    if events.is_empty():
        raise DatasetError(
            "window",
            shown(start, end),
            "at least one event",
            f"widen it (the last event is of {data_end}), or stream events first",
        )
    # A device's clock may run ahead; what it says must not close the others' sessions early.
    window_end = min(end or now, data_end, now)
    sessions = _cut(events).drop("session")
    if start is not None:
        sessions = sessions.filter(pl.col("event_timestamp") >= start)
    frame = sessions.with_columns(ended=pl.col("label_timestamp") <= window_end).sort(
        "event_timestamp", "customer_id"
    )
    first = frame["event_timestamp"][0] if frame.height else window_end
    return Observed(frame, start or first, window_end, events.height)


def _cut(events: pl.DataFrame) -> pl.DataFrame:
    """Sessions of all events, whenever they came: a late one may move or join what it touches."""
    time = pl.col("event_time")
    silent = time.diff() > SESSION_GAP
    other_customer = pl.col("customer_id") != pl.col("customer_id").shift()
    corridor = pl.concat_str("send_country", "receive_country", separator="-")
    total = pl.col("amount_ref_minor") + pl.col("fee_ref_minor").fill_null(0)
    return (
        # The first to come counts, as in the stream.
        events.unique(["customer_id", "event_id"], keep="first", maintain_order=True)
        .sort("customer_id", "event_time", maintain_order=True)
        .with_columns(
            session=(silent | other_customer).fill_null(True).cum_sum(),
            total=pl.when(pl.col("event_type").is_in(_PAYABLE)).then(total),
        )
        .group_by("session", maintain_order=True)
        .agg(
            pl.col("customer_id").first(),
            time.first().alias("event_timestamp"),
            # As the features see it at that instant, when several events may have happened.
            corridor=corridor.filter(time == time.first()).drop_nulls().last(),
            duration_s=(time.last() - time.first()).dt.total_microseconds() / 1e6,
            label_timestamp=time.last() + SESSION_GAP,
            total_ref_minor=pl.col("total").drop_nulls().last(),
        )
    )


def _read(settings: Settings, end: datetime | None) -> tuple[pl.DataFrame, datetime]:
    """The session events up to `end` in stored order, and the instant of the last one of all."""
    events = scan_archive(settings, _COLUMNS).filter(
        ~pl.col("event_type").is_in(sorted(OUTSIDE_SESSION))
    )
    seen = events if end is None else events.filter(pl.col("event_time") <= end)
    try:
        data_end = events.select(pl.col("event_time").max()).collect().item()
        return remembered(seen.collect(), settings), data_end
    except pl.exceptions.PolarsError as error:
        raise unreadable(settings, _COLUMNS, error) from error
