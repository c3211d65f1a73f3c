"""When each model is asked: the moments of a window whose features it would be fed.

Training takes those of them whose outcome is known; here they are all, the latest included, so
that what a model meets today can be laid beside what it met when it was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import cast

import polars as pl

from feature_repo.contracts.errors import DatasetError, ModelError
from feature_repo.contracts.events import EventType
from feature_repo.contracts.settings import Settings
from training import (
    call_within_day,
    customer_value,
    duration_network,
    next_intent,
    payment_fraud,
    session_duration,
)
from training.archive import check_window, remembered, scan_archive, shown, unreadable
from training.configuration import load_config
from training.history import LOOK_BACK, midnights
from training.intent_sessions import intent_sessions
from training.sessions import observed_sessions

_COLUMNS = (
    "customer_id", "event_id", "event_time", "event_type", "send_country", "receive_country",
    "counterparty_id",
)  # fmt: skip
Moments = Callable[[Settings, datetime, datetime], pl.DataFrame]


def asked(settings: Settings, model: str, start: datetime, end: datetime) -> pl.DataFrame:
    """One row a moment of the window: customer_id, event_timestamp, and other keys that matter.

    Args:
        settings: where the archive lies.
        model: one of `ASKED`.
        start, end: aware instants; nothing after `end` is looked at.

    Raises:
        ModelError: nobody has said when the model is asked.
        DatasetError: no archive, a naive or inverted window, or nothing in it.
    """
    check_window(start, end)
    if model not in ASKED:
        raise ModelError("model", model, f"one of {sorted(ASKED)}", "say when it is asked")
    moments = ASKED[model](settings, start, end).filter(
        pl.col("event_timestamp").is_between(start, end)
    )
    if moments.is_empty():
        raise DatasetError(
            "window", shown(start, end), f"a moment at which {model} is asked", "widen it"
        )
    return moments.sort("event_timestamp", "customer_id")


def last_event(settings: Settings) -> datetime:
    """The instant of the last event of all; a label's is that of what it labels.

    Raises:
        DatasetError: there is no archive, or no event in it.
    """
    try:
        last = scan_archive(settings, _COLUMNS).select(pl.col("event_time").max()).collect().item()
    except pl.exceptions.PolarsError as error:
        raise unreadable(settings, _COLUMNS, error) from error
    if last is None:
        raise DatasetError("archive of events", 0, "at least one event", "stream events first")
    return cast("datetime", last)


def _session_starts(settings: Settings, start: datetime, end: datetime) -> pl.DataFrame:
    found = observed_sessions(settings, start, end).frame
    return found.select("customer_id", "event_timestamp", "corridor")


def _logins(settings: Settings, start: datetime, end: datetime) -> pl.DataFrame:
    return _events(settings, EventType.LOGIN, start, end).drop("counterparty_id")


def _payments(settings: Settings, start: datetime, end: datetime) -> pl.DataFrame:
    return _events(settings, EventType.PAYMENT_SUBMITTED, start, end)


def _events(settings: Settings, kind: EventType, start: datetime, end: datetime) -> pl.DataFrame:
    stored = scan_archive(settings, _COLUMNS).filter(
        (pl.col("event_type") == str(kind)) & pl.col("event_time").is_between(start, end)
    )
    try:
        found = stored.collect()
    except pl.exceptions.PolarsError as error:
        raise unreadable(settings, _COLUMNS, error) from error
    return (
        remembered(found, settings)
        .unique(["customer_id", "event_id"], keep="first", maintain_order=True)
        .select(
            "customer_id",
            pl.col("event_time").alias("event_timestamp"),
            pl.concat_str("send_country", "receive_country", separator="-").alias("corridor"),
            "counterparty_id",
        )
    )


def _session_ends(settings: Settings, start: datetime, end: datetime) -> pl.DataFrame:
    del start  # sessions are cut from all events before the end
    over = intent_sessions(settings, end).filter(pl.col("over_at") <= end)
    return over.select("customer_id", pl.col("last_at").alias("event_timestamp"))


def _customers_at_midnights(settings: Settings, start: datetime, end: datetime) -> pl.DataFrame:
    history = load_config(customer_value.Config, customer_value.NAME).history
    stored = scan_archive(settings, _COLUMNS).filter(
        (pl.col("event_type") != str(EventType.LABEL)) & (pl.col("event_time") < end)
    )
    day = pl.col("event_time").dt.truncate("1d")
    try:
        seen = stored.select("customer_id", "event_time", day=day).collect()
    except pl.exceptions.PolarsError as error:
        raise unreadable(settings, _COLUMNS, error) from error
    days = remembered(seen, settings).unique(["customer_id", "day"])
    if days.is_empty():
        return days.select("customer_id", pl.col("day").alias("event_timestamp"))
    # As in training: while the archive is young, what a customer did in it says little.
    first = cast("datetime", days["day"].min())
    earliest = max(start, first + min(history, (end - first) / 2))
    found = [days.select("customer_id", pl.col("day").alias("event_timestamp")).clear()]
    for at in midnights(earliest, max(end, earliest)):
        moment = pl.lit(at).cast(pl.Datetime("us", "UTC"))
        within = days.filter((pl.col("day") < moment) & (pl.col("day") >= moment - LOOK_BACK))
        found.append(
            within.select(pl.col("customer_id").unique()).with_columns(event_timestamp=moment)
        )
    return pl.concat(found).filter(pl.col("event_timestamp") >= earliest)


# Model -> its moments.
ASKED: Mapping[str, Moments] = {
    session_duration.NAME: _session_starts,
    duration_network.NAME: _session_starts,
    call_within_day.NAME: _logins,
    payment_fraud.NAME: _payments,
    next_intent.NAME: _session_ends,
    customer_value.NAME: _customers_at_midnights,
}
