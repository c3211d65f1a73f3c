"""What a customer did in the last 90 days, a row a customer and midnight: the batch view
`customer_history`.

Longer than the stream's windows, and of matters that no stream feature counts: calls, balances,
payments that arrived. Rows of a midnight hold what was known then, so they may be computed at any
later time: for training, `fill_history` adds those that are missing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from polars.testing import assert_frame_equal

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.events import EventType
from feature_repo.contracts.settings import Settings
from feature_repo.stores.view_rows import write_offline_rows, write_view_rows, written
from training.archive import remembered, scan_archive, unreadable
from training.intent_sessions import intent_sessions
from training.intents import INTENTS

log = logging.getLogger(__name__)

VIEW = "customer_history"
LOOK_BACK = timedelta(days=90)
_DAY = timedelta(days=1)
_COLUMNS = ("customer_id", "event_id", "event_time", "event_type", "amount_ref_minor")
_KINDS = (
    EventType.LOGIN,
    EventType.PAYMENT_CONFIRMED,
    EventType.PAYMENT_FAILED,
    EventType.SUPPORT_CONTACT,
    EventType.FINANCIAL_SNAPSHOT,
)


def midnights(start: datetime, end: datetime) -> list[datetime]:
    """The instants 00:00 UTC from the one at or before `start` to the one at or before `end`."""
    first = start.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return [first + day * _DAY for day in range((end.astimezone(UTC) - first) // _DAY + 1)]


def fill_history(settings: Settings, instants: Sequence[datetime]) -> int:
    """Write the offline rows of those midnights that have none; how many midnights.

    Raises:
        DatasetError: there is no archive.
    """
    missing = [at for at in instants if not written(settings, VIEW, at)]
    if missing:
        for at, rows in history_at(settings, missing).items():
            write_offline_rows(settings, VIEW, rows, at)
        log.info("%s of %s days", VIEW, len(missing))
    return len(missing)


def history_at(settings: Settings, instants: Sequence[datetime]) -> dict[datetime, pl.DataFrame]:
    """The view's rows by midnight: customers with an event before it; nothing later is looked at.

    Raises:
        DatasetError: there is no archive, or an instant is no midnight.
    """
    for at in instants:
        if at.astimezone(UTC).time() != datetime.min.time():
            raise DatasetError("instant", str(at), "00:00 UTC of a day", "round it down")
    events, first = _read(settings, max(instants))
    by_day, sessions = _by_day(events), intent_sessions(settings, max(instants))
    return {
        at: _rows(by_day, first, at)
        .join(_intents(sessions, at), on="customer_id", how="left")
        .sort("customer_id")
        for at in instants
    }


def _read(settings: Settings, end: datetime) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The events that count, each once; and when each customer was first seen."""
    stored = scan_archive(settings, _COLUMNS).filter(pl.col("event_time") < end)
    known = stored.filter(pl.col("event_type") != str(EventType.LABEL))
    try:
        chosen = stored.filter(pl.col("event_type").is_in([str(kind) for kind in _KINDS])).collect()
        first = known.group_by("customer_id").agg(pl.col("event_time").min()).collect()
    except pl.exceptions.PolarsError as error:
        raise unreadable(settings, _COLUMNS, error) from error
    events = remembered(chosen, settings).unique(
        ["customer_id", "event_id"], keep="first", maintain_order=True
    )
    return events, remembered(first, settings)


def _by_day(events: pl.DataFrame) -> pl.DataFrame:
    """Sums a customer and day: every window of whole days is a sum of them."""
    kind, amount = pl.col("event_type"), pl.col("amount_ref_minor")

    def of(wanted: EventType) -> pl.Expr:
        return kind == str(wanted)

    return events.group_by(
        "customer_id", pl.col("event_time").dt.truncate("1d").alias("day"), maintain_order=True
    ).agg(
        logins=of(EventType.LOGIN).sum().cast(pl.Int64),
        transfers=of(EventType.PAYMENT_CONFIRMED).sum().cast(pl.Int64),
        failed=of(EventType.PAYMENT_FAILED).sum().cast(pl.Int64),
        contacts=of(EventType.SUPPORT_CONTACT).sum().cast(pl.Int64),
        sent=amount.filter(of(EventType.PAYMENT_CONFIRMED)).sum(),
        largest=amount.filter(of(EventType.PAYMENT_CONFIRMED)).max(),
        balances=of(EventType.FINANCIAL_SNAPSHOT).sum().cast(pl.Int64),
        balance=amount.filter(of(EventType.FINANCIAL_SNAPSHOT)).sum(),
        paid_at=pl.col("event_time").filter(of(EventType.PAYMENT_CONFIRMED)).max(),
        called_at=pl.col("event_time").filter(of(EventType.SUPPORT_CONTACT)).max(),
    )


def _rows(by_day: pl.DataFrame, first: pl.DataFrame, at: datetime) -> pl.DataFrame:
    moment = pl.lit(at).cast(pl.Datetime("us", "UTC"))
    window = by_day.filter((pl.col("day") < moment) & (pl.col("day") >= moment - LOOK_BACK))
    recent = pl.col("day") >= moment - LOOK_BACK / 3

    def days_since(column: str) -> pl.Expr:
        return (moment - pl.col(column).max()).dt.total_seconds() / _DAY.total_seconds()

    sums = window.group_by("customer_id").agg(
        logins_90d=pl.col("logins").sum(),
        transfers_90d=pl.col("transfers").sum(),
        failed_90d=pl.col("failed").sum(),
        contacts_90d=pl.col("contacts").sum(),
        sent_90d_ref_minor=pl.col("sent").sum(),
        largest_90d_ref_minor=pl.col("largest").max(),
        sent_last_third=pl.col("sent").filter(recent).sum(),
        balance_mean_90d_ref_minor=pl.col("balance").sum() / pl.col("balances").sum(),
        days_since_transfer=days_since("paid_at"),
        days_since_contact=days_since("called_at"),
    )
    known = first.filter(pl.col("event_time") < moment)
    seen_days = (
        ((moment - pl.col("event_time")).dt.total_seconds() / _DAY.total_seconds())
        .ceil()
        .clip(1, LOOK_BACK // _DAY)
    )
    counted = [name for name in sums.columns if name.endswith("_90d")]
    return (
        known.select("customer_id", history_days=seen_days.cast(pl.Int64))
        .join(sums, on="customer_id", how="left")
        .with_columns(pl.col(*counted, "sent_90d_ref_minor", "sent_last_third").fill_null(0))
        .with_columns(
            sent_daily_ref_minor=pl.col("sent_90d_ref_minor") / pl.col("history_days"),
            # 1: nothing but the last 30 of the days; null where nothing was sent.
            sent_recent_share=pl.when(pl.col("sent_90d_ref_minor") > 0).then(
                pl.col("sent_last_third") / pl.col("sent_90d_ref_minor")
            ),
            balance_mean_90d_ref_minor=pl.col("balance_mean_90d_ref_minor").fill_nan(None),
        )
        .drop("sent_last_third")
    )


def _intents(sessions: pl.DataFrame, at: datetime) -> pl.DataFrame:
    """What customers' sessions that were over were for: the last two, and shares of all."""
    moment = pl.lit(at).cast(pl.Datetime("us", "UTC"))
    # One that goes on over midnight is not over at midnight, however it is cut there.
    known = sessions.filter(
        (pl.col("over_at") <= moment) & (pl.col("started_at") >= moment - LOOK_BACK)
    )
    intent = pl.col("intent")
    return known.group_by("customer_id").agg(
        *((intent == name).mean().alias(f"share_{name}") for name in INTENTS),
        last_intent=intent.last(),
        intent_before_last=intent.get(-2, null_on_oob=True),
    )


def check_history(settings: Settings, instants: Sequence[datetime], *, seed: int = 0) -> None:
    """Compute the rows of two of the midnights again, each with nothing later read at all.

    Raises:
        DatasetError: stored rows are others: they know something of later, or the archive has
            changed since.
    """
    chosen = np.random.default_rng(seed).permutation(len(instants))[:2]
    for at in (instants[place] for place in chosen):
        again = history_at(settings, [at])[at]
        stored = pl.read_parquet(
            settings.batch_table(VIEW) / f"event_date={at:%Y-%m-%d}" / "*.parquet",
            hive_partitioning=False,
        ).select(again.columns)
        if not _same(stored.sort("customer_id"), again):
            raise DatasetError(
                f"{VIEW} of {at:%Y-%m-%d}",
                expected="what was known at that midnight",
                action="its rows know something of later, or the archive has grown backwards; "
                "remove the file, and it is written again",
            )


def publish_history(settings: Settings, at: datetime) -> int:
    """Write the rows of the midnight at or before an instant to both stores; how many.

    Raises:
        DatasetError: there is no archive, or nobody was seen before that midnight.
        StoreUnavailableError: the online store does not answer.
    """
    (midnight,) = midnights(at, at)
    rows = history_at(settings, [midnight])[midnight]
    if rows.is_empty():
        raise DatasetError(
            "events",
            0,
            f"at least one before {midnight}",
            "stream events first, or name a later at",
        )
    write_view_rows(settings, VIEW, rows, midnight)
    return rows.height


def _same(stored: pl.DataFrame, again: pl.DataFrame) -> bool:
    try:
        assert_frame_equal(stored, again, rel_tol=1e-9)
    except AssertionError:
        return False
    return True
