"""Labelled examples from the archive of events: one a labelled event, with what became known of it.

A label is an event of its own, which arrives late: a call within a day, fraud after about a week.
What it means follows from the type of the event that it labels. One example an event of a type, at
that event's instant; what is known of it then comes from the feature join (`training.dataset`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import cast

import polars as pl

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.events import EventType
from feature_repo.contracts.settings import Settings
from training.archive import check_window, remembered, scan_archive, shown, unreadable

_COLUMNS = (
    "customer_id",
    "event_id",
    "event_time",
    "event_type",
    "send_country",
    "receive_country",
    "counterparty_id",
    "device",
    "amount_ref_minor",
    "label_event_id",
    "label_value",
    "label_arrival_time",
)
_KEYS = ["customer_id", "event_id"]


@dataclass(frozen=True)
class Labelled:
    """The labelled events of a window, and what was left out.

    Attributes:
        frame: one row an event, by time: customer_id, corridor (of the event; null where unknown),
            counterparty_id, device, event_id, event_timestamp (UTC µs), amount_ref_minor (US
            cents; null where the event has none), label_value, label_timestamp (its arrival).
        window_start, window_end: instants from which events were taken, and up to which anything
            was known.
        events: events of the type, before anything was left out.
        open: those so young at `window_end` that their label may still come.
        unlabelled: those that are old enough and have no label, or one that came later than the
            delay.
    """

    frame: pl.DataFrame
    window_start: datetime
    window_end: datetime
    events: int
    open: int
    unlabelled: int

    @property
    def counts(self) -> dict[str, int]:
        """What there was, for the figures of a version."""
        return {
            "examples": self.frame.height,
            "positive": int(self.frame["label_value"].sum()),
            "open": self.open,
            "unlabelled": self.unlabelled,
        }


def labelled_events(  # noqa: PLR0917 - what, how long, and a window
    settings: Settings,
    kind: EventType,
    delay: timedelta,
    start: datetime | None = None,
    end: datetime | None = None,
    now: datetime | None = None,
) -> Labelled:
    """The events of a type at or after `start` whose labels were known by `end`.

    An event younger than `delay` at the window's end is left out, whether or not its label came:
    those that come first are not like the others (a call is known when it happens, no call only
    after a day). A label that takes longer than `delay` counts as none. So every label of the
    examples before `instant - delay` was known at `instant`, for any instant: a split with a gap
    of `delay` trains on nothing that was not known when the later part began.

    Args:
        settings: where the archive lies.
        kind: of the labelled events: `login` (a call within a day), `payment_submitted` (fraud).
        delay: how long labels take.
        start, end: aware instants; None for the first event and the last thing known.
        now: the clock (default: the time of day).

    Raises:
        DatasetError: no archive, a naive or inverted window, no event of the type in it, or none
            of them has a label.

    Trap: if `unlabelled` is not small, those without a label may differ from those with one; ask
    for a longer delay.
    """
    now = now or datetime.now(UTC)
    check_window(start, end)
    if delay <= timedelta(0):
        raise DatasetError("delay", str(delay), "a time above zero", "say how long labels take")
    events, labels, known_until = _read(settings, kind)
    # A device's clock may run ahead; what it says must not make others' labels seem overdue.
    window_end = min(end or now, known_until, now)
    if start is not None:
        events = events.filter(pl.col("event_timestamp") >= start)
    events = events.filter(pl.col("event_timestamp") <= window_end)
    if events.is_empty():
        raise DatasetError(
            "window",
            shown(start, end),
            f"at least one {kind} event",
            f"widen it (the last thing known is of {known_until}), or stream events first",
        )
    old_enough = events.filter(pl.col("event_timestamp") + delay <= window_end)
    known = old_enough.join(labels, on=_KEYS, how="inner", maintain_order="left").filter(
        pl.col("label_timestamp") <= pl.col("event_timestamp") + delay
    )
    # Of several labels of an event, a correction say, the last to come counts.
    frame = known.sort("label_timestamp", maintain_order=True).unique(
        _KEYS, keep="last", maintain_order=True
    )
    if frame.is_empty():
        raise DatasetError(
            "labels",
            shown(start, end),
            f"a label of a {kind} event, {delay} after it at the latest",
            f"widen the window, or stream label events ({old_enough.height} events of it are old "
            "enough to have one)",
        )
    frame = frame.sort("event_timestamp", "customer_id", "event_id")
    return Labelled(
        frame=frame,
        window_start=start or cast("datetime", events["event_timestamp"].min()),
        window_end=window_end,
        events=events.height,
        open=events.height - old_enough.height,
        unlabelled=old_enough.height - frame.height,
    )


def _read(settings: Settings, kind: EventType) -> tuple[pl.DataFrame, pl.DataFrame, datetime]:
    """The events of a type, each once; the labels; and when the last thing of all was known."""
    stored = scan_archive(settings, _COLUMNS)
    is_label = pl.col("event_type") == str(EventType.LABEL)
    known = (
        pl.when(is_label)
        .then(pl.col("label_arrival_time").fill_null(pl.col("event_time")))
        .otherwise(pl.col("event_time"))
    )
    try:
        known_until = stored.select(known.max()).collect().item()
        chosen = stored.filter((pl.col("event_type") == str(kind)) | is_label).collect()
    except pl.exceptions.PolarsError as error:
        raise unreadable(settings, _COLUMNS, error) from error
    chosen = remembered(chosen, settings)
    # The first to come counts, as in the stream.
    events = (
        chosen.filter(~is_label)
        .unique(_KEYS, keep="first", maintain_order=True)
        .select(
            "customer_id",
            pl.concat_str("send_country", "receive_country", separator="-").alias("corridor"),
            "counterparty_id",
            "device",
            "event_id",
            pl.col("event_time").alias("event_timestamp"),
            "amount_ref_minor",
        )
    )
    labels = chosen.filter(is_label).select(
        "customer_id",
        pl.col("label_event_id").alias("event_id"),
        "label_value",
        known.alias("label_timestamp"),
    )
    return events, labels, known_until
