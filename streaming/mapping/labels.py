"""Rows that carry their own label: each gives a second event, which refers to the first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import polars as pl

from feature_repo.contracts.events import LATEST_EVENT, EventType
from streaming.mapping.checks import Violation
from streaming.mapping.convert import Fault
from streaming.mapping.spec import LabelSource

_MONEY = ("amount_minor", "fee_minor", "currency")


def label_violations(
    events: pl.DataFrame, label: LabelSource, faults: Iterable[Fault]
) -> Iterator[Violation]:
    """What is wrong with the labels of n mapped events; `faults` are those of their values."""
    for fault in faults:
        yield Violation("label_value", *fault)
    late = events["event_time"] >= LATEST_EVENT - label.after
    if late.any():
        yield Violation("label_value", late.fill_null(False), "a label known before 2100")


def label_events(events: pl.DataFrame, values: pl.Series, label: LabelSource) -> pl.DataFrame:
    """The label events of n mapped events, in their order; none where the value (n) is null.

    A label event has its event's time and texts (customer, counterparty, countries), so that it
    belongs to the same keys, but not its money: it would be counted twice.
    """
    labelled = events.with_columns(label_value=values).filter(values.is_not_null())
    return labelled.with_columns(
        event_id=pl.col("event_id") + ":label",
        event_type=pl.lit(str(EventType.LABEL)),
        label_event_id=pl.col("event_id"),
        label_arrival_time=pl.col("event_time") + label.after,
        **{name: pl.lit(None, labelled.schema[name]) for name in _MONEY},
    ).select(events.columns)
