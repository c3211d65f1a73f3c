"""The event schema's rules, a whole batch at a time.

The same rules, in the same order and with the same expectations, as `Event.validated()` applies to
single events (`tests/streaming/mapping/test_checks.py` holds both to each other), and one more:
where there is an amount there must be an exchange rate for its currency on that day.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from feature_repo.contracts.events import (
    COUNTRY_PATTERN,
    CURRENCY_PATTERN,
    EARLIEST_EVENT,
    EVENT_TYPES,
    LATEST_EVENT,
    MAX_AMOUNT_MINOR,
    EventType,
)
from feature_repo.contracts.money import ExchangeRates
from streaming.mapping.suggestions import listed

_MONEY = ("amount_minor", "fee_minor")


class Violation(NamedTuple):
    """Rows (n flags) whose `field` is not what is expected."""

    field: str
    rows: pl.Series
    expected: str


class _Rule(NamedTuple):
    field: str
    broken: pl.Expr
    expected: str
    only_present: bool = True  # says nothing about rows in which the field is missing


def _rules() -> list[_Rule]:
    col = pl.col
    rules = [
        _Rule(
            "event_type",
            ~col("event_type").is_in([str(kind) for kind in EVENT_TYPES]).fill_null(False),
            f"one of {listed(EVENT_TYPES)}",
            only_present=False,
        )
    ]
    rules += [
        _Rule(name, (col(name) == "").fill_null(True), "a non-empty text", only_present=False)
        for name in ("event_id", "customer_id")
    ]
    rules.append(_Rule("event_time", col("event_time").is_null(), "an instant", only_present=False))
    rules += [
        _Rule(
            name,
            (col(name) < EARLIEST_EVENT) | (col(name) >= LATEST_EVENT),
            "an instant in 2000..2099",
        )
        for name in ("event_time", "label_arrival_time")
    ]
    rules += [
        _Rule(
            name,
            ~col(name).str.contains(COUNTRY_PATTERN.pattern),
            "an ISO 3166 two-letter code",
        )
        for name in ("send_country", "receive_country", "ip_country")
    ]
    for name in _MONEY:
        rules += [
            _Rule(
                name,
                (col(name) < 0) | (col(name) > MAX_AMOUNT_MINOR),
                f"0..{MAX_AMOUNT_MINOR} minor units",
            ),
            _Rule(
                "currency",
                col(name).is_not_null() & col("currency").is_null(),
                f"a currency beside {name}",
                only_present=False,
            ),
        ]
    rules += [
        _Rule(
            "currency", ~col("currency").str.contains(CURRENCY_PATTERN.pattern), "an ISO 4217 code"
        ),
        _Rule(
            "label_event_id",
            (col("event_type") == EventType.LABEL)
            & (col("label_event_id").is_null() | col("label_value").is_null()),
            "the labelled event's id and a label_value on every label event",
            only_present=False,
        ),
    ]
    return rules


_RULES = _rules()


def violations(events: pl.DataFrame, rates: ExchangeRates) -> Iterator[Violation]:
    """The broken rules of n mapped events (columns of `EVENT_SCHEMA`), in the rules' order.

    A row's first violation is the one to report: later rules take the earlier ones for granted.
    """
    empty = {name for name in events.columns if events[name].null_count() == events.height}
    applied = [rule for rule in _RULES if not (rule.only_present and rule.field in empty)]
    flags = events.select(
        rule.broken.fill_null(False).alias(str(at)) for at, rule in enumerate(applied)
    )
    for rule, rows in zip(applied, flags.iter_columns(), strict=True):
        if rows.any():
            yield Violation(rule.field, rows, rule.expected)
    if not empty.issuperset(_MONEY):
        rows = _without_rate(events, rates)
        if rows.any():
            yield Violation("currency", rows, "a currency with an exchange rate on that day")


def _without_rate(events: pl.DataFrame, rates: ExchangeRates) -> pl.Series:
    currency = events["currency"].to_arrow().cast(pa.string())
    times_us = events["event_time"].to_physical().fill_null(0).to_numpy()
    rate = pl.Series(rates.factors(currency, times_us.astype(np.int64)))
    return rate.is_nan() & (
        events["amount_minor"].is_not_null() | events["fee_minor"].is_not_null()
    )
