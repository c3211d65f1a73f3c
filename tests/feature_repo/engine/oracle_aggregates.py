"""The oracle's filters and aggregates: of a handful of events, in plain and exact arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from feature_repo.contracts.definition import Aggregate, Comparison, Feature, Filter, Operator
from feature_repo.contracts.events import OUTSIDE_SESSION, corridor_of

Record = dict[str, Any]


def fits(wanted: Filter, record: Record) -> bool:
    """Whether an event passes a filter."""
    if wanted.event_types:
        if record["event_type"] not in wanted.event_types:
            return False
    elif record["event_type"] in OUTSIDE_SESSION:
        return False
    return all(_holds(comparison, record) for comparison in wanted.where)


def _holds(comparison: Comparison, record: Record) -> bool:
    value = column_of(record, comparison.column)
    if value is None:
        return False
    return bool(
        {
            Operator.EQ: lambda: value == comparison.value,
            Operator.NE: lambda: value != comparison.value,
            Operator.LT: lambda: value < comparison.value,
            Operator.LE: lambda: value <= comparison.value,
            Operator.GT: lambda: value > comparison.value,
            Operator.GE: lambda: value >= comparison.value,
        }[comparison.operator]()
    )


def column_of(record: Record, column: str) -> Any:
    """A column of an event, the computed ones included."""
    if column == "corridor":
        return corridor_of(record["send_country"], record["receive_country"])
    if column == "total_ref_minor":
        amount = record["amount_ref_minor"]
        return None if amount is None else amount + (record["fee_ref_minor"] or 0)
    return record[column]


def aggregate_of(
    feature: Feature,
    chosen: Sequence[tuple[int, Record]],
    at_us: int,
    seconds: Fraction | None,
) -> Any:
    """The aggregate of (time, event) pairs by (event time, log order), all of which take part.

    `seconds`: what a rate is a second of.
    """
    values = [column_of(event, feature.column) for _, event in chosen] if feature.column else []
    if feature.aggregate in _OF_NOTHING_TOO:
        return _OF_NOTHING_TOO[feature.aggregate](chosen, values)
    if not chosen:
        return None
    first_us, last_us = chosen[0][0], chosen[-1][0]
    if feature.aggregate is Aggregate.RATE:
        amount = _exact(values) if feature.column else Fraction(len(chosen))
        return float(amount / seconds) if seconds else None
    if feature.column is None:
        return {
            Aggregate.TIME_SINCE: float(Fraction(at_us - last_us, 1_000_000)),
            Aggregate.START: first_us,
            Aggregate.DURATION: float(Fraction(last_us - first_us, 1_000_000)),
        }[feature.aggregate]
    if feature.aggregate is Aggregate.LAST_N:
        return values[::-1][: feature.n]
    return _OF_VALUES[feature.aggregate](values)


def _mean(values: Sequence[float]) -> float:
    return float(_exact(values) / len(values))


def _std(values: Sequence[float]) -> float:
    values = list(map(float, values))  # so it is defined: beyond 2^53 whole numbers are rounded
    mean = _exact(values) / len(values)
    spread = sum(((Fraction(value) - mean) ** 2 for value in values), Fraction(0))
    return math.sqrt(spread / len(values))


_OF_NOTHING_TOO: dict[Aggregate, Callable[[Sequence[Any], list[Any]], Any]] = {
    Aggregate.COUNT: lambda chosen, _: len(chosen),
    Aggregate.DISTINCT_COUNT: lambda _, values: len(set(values)),
    Aggregate.SUM: lambda _, values: _total(values),
}
_OF_VALUES: dict[Aggregate, Callable[[list[Any]], Any]] = {
    Aggregate.MEAN: _mean,
    Aggregate.STD: _std,
    Aggregate.MIN: min,
    Aggregate.MAX: max,
    Aggregate.FIRST: lambda values: values[0],
    Aggregate.LAST: lambda values: values[-1],
}


def _exact(values: Sequence[float]) -> Fraction:
    return sum(map(Fraction, values), Fraction(0))


def _total(values: Sequence[float]) -> float:
    """The sum; of floats the nearest float to the exact one."""
    if any(isinstance(value, float) for value in values):
        return float(_exact(values))
    return sum(values)
