"""What value type a feature has, and what it means in words."""

from __future__ import annotations

from feature_repo.contracts.columns import COLUMN_DTYPES
from feature_repo.contracts.definition import (
    Aggregate,
    Derived,
    Dtype,
    Feature,
    Function,
    Lifetime,
    Session,
    Sliding,
    short_duration,
)

_FLOATS = {
    Aggregate.MEAN,
    Aggregate.STD,
    Aggregate.RATE,
    Aggregate.TIME_SINCE,
    Aggregate.DURATION,
}
_INTS = {Aggregate.COUNT, Aggregate.DISTINCT_COUNT, Aggregate.START}
_WORDS = {
    Aggregate.COUNT: "number",
    Aggregate.DISTINCT_COUNT: "number of different values",
    Aggregate.STD: "standard deviation",
    Aggregate.TIME_SINCE: "seconds since the latest",
    Aggregate.START: "instant of the first, µs since 1970",
    Aggregate.DURATION: "seconds from the first to the latest",
    Aggregate.RATE: "per second",
}


def dtype_of(feature: Feature | Derived) -> Dtype:
    """The value type, from the aggregate and the column.

    >>> from datetime import timedelta
    >>> dtype_of(Feature(Aggregate.MEAN, Sliding(timedelta(hours=1)), "amount_minor"))
    <Dtype.FLOAT64: 'Float64'>
    """
    if isinstance(feature, Derived):
        return Dtype.FLOAT64 if feature.function is Function.RATIO else Dtype.INT64
    if feature.aggregate in _FLOATS:
        return Dtype.FLOAT64
    if feature.aggregate in _INTS:
        return Dtype.INT64
    dtype = COLUMN_DTYPES[feature.column or ""]
    if feature.aggregate is Aggregate.LAST_N:
        return Dtype.STRING_LIST if dtype is Dtype.STRING else Dtype.INT64_LIST
    return dtype


def describe(feature: Feature | Derived) -> str:
    """One line for people: what is aggregated, of which events, in which window."""
    if isinstance(feature, Derived):
        return feature.description or f"{feature.function} of {', '.join(feature.of)}"
    what = _WORDS.get(feature.aggregate, str(feature.aggregate))
    if feature.aggregate is Aggregate.LAST_N:
        what = f"latest {feature.n}, newest first,"
    column = f" of {feature.column}" if feature.column else ""
    subject = feature.events.subject
    events = f" of {subject} events" if subject else " of events"
    delay = f", older than {short_duration(feature.label_delay)}" if feature.label_delay else ""
    return f"{what}{column}{events}{_window_words(feature)}{delay}"


def _window_words(feature: Feature) -> str:
    match feature.window:
        case Sliding():
            return f" in the last {short_duration(feature.window.length)}"
        case Session():
            return " in the session before" if feature.window.back else " in the session"
        case Lifetime():
            return " ever"
