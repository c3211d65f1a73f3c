"""Closed sessions from the offline store: the examples of every model that is asked at a login.

One example a session, at its first event. What is known of it then comes from the feature join
(`training.dataset`); what it turned into, here, is the target.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.features import SESSION_GAP
from feature_repo.contracts.settings import Settings

_COLUMNS = (
    "customer_id",
    "event_timestamp",
    "session_start_us",
    "session_corridor",
)


@dataclass(frozen=True)
class Sessions:
    """The closed sessions of a window, and what was left out.

    Attributes:
        frame: one row a session, by time: customer_id, corridor (at the first event, null where
            unknown), event_timestamp (the first event, UTC µs), duration_s (first event to last),
            label_timestamp (when the session could first be known to be over).
        window_start: instant from which sessions start.
        window_end: instant up to which events were seen.
        events: offline rows read.
        open: sessions left out because they may still go on at `window_end` (right-censored).
        headless: sessions left out because their first event is not in the store.
    """

    frame: pl.DataFrame
    window_start: datetime
    window_end: datetime
    events: int
    open: int
    headless: int


def closed_sessions(
    settings: Settings,
    start: datetime | None = None,
    end: datetime | None = None,
    now: datetime | None = None,
) -> Sessions:
    """The sessions that start at or after `start` and are over by `end`, as known at `end`.

    Events after `end` are not read, so a session's length never depends on what came later. A
    session is over once `SESSION_GAP` has passed without an event.

    Args:
        settings: where the offline store lies.
        start: aware instant; None for the first event there is.
        end: aware instant; None, or an instant past the data, for the last event there is.
        now: the clock (default: the time of day).

    Raises:
        DatasetError: no offline store, a naive or inverted window, or no session in it.

    Trap: leaving out open sessions favours short ones within half an hour of the window's end.
    Over days that is negligible; the duration distributions must use censoring instead.
    """
    now = now or datetime.now(UTC)
    for name, instant in (("start", start), ("end", end)):
        if instant is not None and instant.tzinfo is None:
            raise DatasetError(name, str(instant), "an instant with time zone", "append Z")
    if start is not None and end is not None and start >= end:
        raise DatasetError("start", str(start), f"an instant before end ({end})", "swap them")

    rows, data_end = _read(settings, end)
    if rows.is_empty():
        raise DatasetError(
            "window",
            _shown(start, end),
            "at least one event",
            f"widen it (the last event is of {data_end}), or stream events first",
        )
    # A device's clock may run ahead; what it says must not close the others' sessions early.
    window_end = min(end or now, data_end, now)
    sessions = _cut(rows)
    if start is not None:
        sessions = sessions.filter(pl.col("event_timestamp") >= start)
    with_head = sessions.filter(pl.col("event_timestamp").dt.epoch("us") == pl.col("head_start_us"))
    closed = with_head.filter(pl.col("label_timestamp") <= window_end).sort(
        "event_timestamp", "customer_id"
    )
    if closed.is_empty():
        raise DatasetError(
            "window",
            _shown(start, end),
            f"a session that is over ({SESSION_GAP} without an event)",
            f"widen it ({with_head.height} sessions are still open at {window_end})",
        )
    first = closed["event_timestamp"][0]
    return Sessions(
        frame=closed.select(
            "customer_id", "corridor", "event_timestamp", "duration_s", "label_timestamp"
        ),
        window_start=start or first,
        window_end=window_end,
        events=rows.height,
        open=with_head.height - closed.height,
        headless=sessions.height - with_head.height,
    )


def _cut(rows: pl.DataFrame) -> pl.DataFrame:
    """Sessions from the events' times, not from the starts stored with them.

    A row is as of its event's arrival: an event that came late may have moved or joined sessions
    whose rows were written before.
    """
    time = pl.col("event_timestamp")
    silent = time.diff() > SESSION_GAP
    other_customer = pl.col("customer_id") != pl.col("customer_id").shift()
    return (
        # Of rows at one instant the last stored is what the feature join sees too.
        rows.unique(["customer_id", "event_timestamp"], keep="last", maintain_order=True)
        .sort("customer_id", "event_timestamp")
        .with_columns(session=(silent | other_customer).fill_null(True).cum_sum())
        .group_by("session", maintain_order=True)
        .agg(
            pl.col("customer_id").first(),
            time.first(),
            corridor=pl.col("session_corridor").first(),
            head_start_us=pl.col("session_start_us").first(),
            duration_s=(time.last() - time.first()).dt.total_microseconds() / 1e6,
            label_timestamp=time.last() + SESSION_GAP,
        )
    )


def _read(settings: Settings, end: datetime | None) -> tuple[pl.DataFrame, datetime]:
    """The rows up to `end`, and the instant of the last row of all."""
    files = sorted(settings.stream_table.rglob("*.parquet"))
    if not files:
        raise DatasetError(
            "offline store",
            str(settings.stream_table),
            "rows of the stream features",
            "stream events first: daima replay FILE, or daima demo",
        )
    rows = pl.scan_parquet(files, hive_partitioning=False).select(_COLUMNS)
    seen = rows if end is None else rows.filter(pl.col("event_timestamp") <= end)
    try:
        data_end = rows.select(pl.col("event_timestamp").max()).collect().item()
        return seen.collect(), data_end
    except pl.exceptions.PolarsError as error:
        raise DatasetError(
            "offline store",
            str(settings.stream_table),
            f"Parquet files with the columns {', '.join(_COLUMNS)}",
            f"remove files that are not the dataflow's; reading them failed: {error}",
        ) from error


def _shown(start: datetime | None, end: datetime | None) -> str:
    return f"{start or 'first event'} .. {end or 'last event'}"
