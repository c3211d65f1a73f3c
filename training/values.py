"""What customers sent in the days after snapshots: the examples of the model of customer value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.events import EventType
from feature_repo.contracts.settings import Settings
from training.archive import check_window, remembered, scan_archive, shown, unreadable
from training.history import LOOK_BACK, midnights

_COLUMNS = ("customer_id", "event_id", "event_time", "event_type", "amount_ref_minor")


@dataclass(frozen=True)
class Values:
    """Customers at snapshots.

    Attributes:
        frame: one row a customer and snapshot, by time: customer_id, event_timestamp (the
            snapshot), value_ref_minor (US cents that arrived within the horizon),
            label_timestamp (when the horizon had passed).
        snapshots: their instants.
        window_start, window_end: as of `labelled_events`.
        open: snapshots left out because their horizon had not passed.
    """

    frame: pl.DataFrame
    snapshots: list[datetime]
    window_start: datetime
    window_end: datetime
    open: int


def values_at(
    settings: Settings,
    horizon: timedelta,
    *,
    every: timedelta,
    history: timedelta,
    start: datetime | None = None,
    end: datetime | None = None,
    now: datetime | None = None,
) -> Values:
    """Customers seen in the 90 days before each snapshot, and what they sent afterwards.

    Args:
        settings: where the archive lies.
        horizon: the days that count, from the snapshot on.
        every: between snapshots, whole days.
        history: how long the archive must be before the first snapshot.
        start, end: aware instants; snapshots lie between them, and nothing after `end` is known.
        now: the clock (default: the time of day).

    Raises:
        DatasetError: no archive, a naive or inverted window, or no snapshot whose horizon has
            passed.
    """
    now = now or datetime.now(UTC)
    check_window(start, end)
    day = timedelta(days=1)
    for name, span in (("horizon", horizon), ("every", every)):
        if span < day or span % day:
            raise DatasetError(name, str(span), "whole days", "write P7D, say")
    first, last, seen, payments = _read(settings)
    if first is None or last is None:
        raise DatasetError("window", shown(start, end), "at least one event", "stream events first")
    window_end = min(end or now, last, now)
    earliest = max(first + history, start or first)
    due = midnights(earliest + day - timedelta(microseconds=1), max(window_end, earliest))
    due = [at for at in due if at >= earliest][:: every // day]
    snapshots = [at for at in due if at + horizon <= window_end]
    if not snapshots:
        raise DatasetError(
            "window",
            shown(start, end),
            f"a midnight with {history} of events before it and {horizon} after it",
            f"widen it (events are from {first} to {window_end}), or set a shorter horizon",
        )
    rows = [_at(seen, payments, at, horizon) for at in snapshots]
    frame = pl.concat(rows).sort("event_timestamp", "customer_id")
    return Values(frame, snapshots, start or first, window_end, len(due) - len(snapshots))


def _at(
    seen: pl.DataFrame, payments: pl.DataFrame, at: datetime, horizon: timedelta
) -> pl.DataFrame:
    moment = pl.lit(at).cast(pl.Datetime("us", "UTC"))
    known = seen.filter((pl.col("day") < moment) & (pl.col("day") >= moment - LOOK_BACK))
    sent = (
        payments.filter(
            (pl.col("event_time") >= moment) & (pl.col("event_time") < moment + horizon)
        )
        .group_by("customer_id")
        .agg(value_ref_minor=pl.col("amount_ref_minor").sum())
    )
    return (
        known.select(pl.col("customer_id").unique())
        .join(sent, on="customer_id", how="left")
        .select(
            "customer_id",
            moment.alias("event_timestamp"),
            pl.col("value_ref_minor").fill_null(0),
            (moment + horizon).alias("label_timestamp"),
        )
    )


def _read(
    settings: Settings,
) -> tuple[datetime | None, datetime | None, pl.DataFrame, pl.DataFrame]:
    """First and last instant of all; the days on which customers were seen; their payments."""
    stored = scan_archive(settings, _COLUMNS).filter(
        pl.col("event_type") != str(EventType.LABEL)  # its time is that of what it labels
    )
    time = pl.col("event_time")
    try:
        first, last = stored.select(time.min(), time.max().alias("last")).collect().row(0)
        days = stored.select("customer_id", "event_time", time.dt.truncate("1d").alias("day"))
        seen = days.unique(["customer_id", "day"], keep="first").collect()
        payments = stored.filter(pl.col("event_type") == str(EventType.PAYMENT_CONFIRMED)).collect()
    except pl.exceptions.PolarsError as error:
        raise unreadable(settings, _COLUMNS, error) from error
    once = remembered(payments, settings).unique(
        ["customer_id", "event_id"], keep="first", maintain_order=True
    )
    return first, last, remembered(seen, settings).select("customer_id", "day"), once
