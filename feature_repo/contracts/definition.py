"""What a stream feature is, as data: an aggregate of a column over filtered events in a window.

Names and dtypes derive from the definition, so nothing repeats them:

>>> payment = Filter(event_types=(EventType.PAYMENT_SUBMITTED,))
>>> Feature(Aggregate.SUM, Sliding(timedelta(days=7)), "amount_ref_minor", payment).name
'payment_submitted_amount_ref_minor_sum_7d'
>>> Feature(Aggregate.SUM, Sliding(timedelta(hours=1)), "amount_minor").name
'amount_minor_sum_1h'
>>> Feature(Aggregate.COUNT, Session()).name
'session_event_count'
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from feature_repo.contracts.events import EventType


class Dtype(StrEnum):
    """Value types of features, named as in Feast."""

    INT64 = "Int64"
    FLOAT64 = "Float64"
    STRING = "String"
    BYTES = "Bytes"
    INT64_LIST = "Array(Int64)"
    STRING_LIST = "Array(String)"


class Aggregate(StrEnum):
    """What is made of the events in a window; the value is its part of the feature's name.

    Of an empty window, counts and sums are 0 and everything else is null. Events whose column is
    null do not take part. `std` is the population's; `rate` is the sum of the column (without
    one, the number of events) a second of the window, and of a session a second of its duration;
    `time_since` is seconds since the latest event; `start` is the first event's instant;
    `duration` is seconds from the first event to the latest; `last_n` the latest N values,
    newest first.
    """

    COUNT = "count"
    SUM = "sum"
    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    STD = "std"
    FIRST = "first"
    LAST = "last"
    DISTINCT_COUNT = "distinct_count"
    TIME_SINCE = "time_since"
    LAST_N = "last_n"
    RATE = "rate"
    START = "start"
    DURATION = "duration"


class Operator(StrEnum):
    """How a field is compared; the value is its part of the feature's name."""

    EQ = "eq"
    NE = "ne"
    LT = "lt"
    LE = "le"
    GT = "gt"
    GE = "ge"


@dataclass(frozen=True)
class Comparison:
    """A field of the event compared with a constant; a null field never fits."""

    column: str
    operator: Operator
    value: int | float | str

    @property
    def name(self) -> str:
        """The derived name, such as `amount_minor_gt_10000`."""
        text = str(self.value).lower().replace("-", "_").replace(".", "p")
        return f"{self.column}_{self.operator}_{text}"


@dataclass(frozen=True)
class Filter:
    """Which events take part.

    Attributes:
        event_types: these only; empty means all events of a session (everything but calls,
            reports, labels and balances).
        where: comparisons that must all hold.
        name: stands for the filter in the names of features; derived if empty.
    """

    event_types: tuple[EventType, ...] = ()
    where: tuple[Comparison, ...] = ()
    name: str = ""

    @property
    def subject(self) -> str:
        """The filter's part of a feature's name; empty for all events."""
        if self.name:
            return self.name
        return "_".join([*self.event_types, *(comparison.name for comparison in self.where)])


ALL_EVENTS = Filter()


@dataclass(frozen=True)
class Sliding:
    """The events in (t - length, t]."""

    length: timedelta


@dataclass(frozen=True)
class Session:
    """The events of the session that is open at t, ended by a silence longer than the gap.

    Once it has ended the window is empty, until the next session begins. `back=1` is the session
    before: the one that ended last.
    """

    gap: timedelta = timedelta(minutes=30)
    back: int = 0


@dataclass(frozen=True)
class Lifetime:
    """All events up to t."""


Window = Sliding | Session | Lifetime


@dataclass(frozen=True)
class Feature:
    """One stream feature.

    Attributes:
        aggregate: what is computed.
        window: over which stretch of time.
        column: of which column; None for those that need none (count, time_since, start,
            duration, rate of events).
        events: of which events.
        label_delay: only events at least this old count: the window ends at t - label_delay.
            Counts of labels and of what they refer to then cover the same events.
        n: how many values `last_n` keeps.
        default: stands in for null (an empty window).
    """

    aggregate: Aggregate
    window: Window
    column: str | None = None
    events: Filter = ALL_EVENTS
    label_delay: timedelta = timedelta(0)
    n: int = 0
    default: float | None = None

    @property
    def name(self) -> str:
        """The derived name."""
        return "_".join(part for part in self._name_parts() if part)

    def _name_parts(self) -> list[str]:
        subject = self.events.subject
        prefix, suffix = _window_name(self.window)
        match self.aggregate:
            case Aggregate.COUNT if self.column is None:
                what = [subject or "event", "count"]
            case Aggregate.TIME_SINCE:
                what = ["seconds_since", subject or "event"]
            case Aggregate.START:
                what = [subject, "start_us"]
            case Aggregate.DURATION:
                what = [subject, "duration_s"]
            case Aggregate.RATE if self.column is None:
                what = [subject or "event", "rate"]
            case Aggregate.LAST_N:
                what = [subject, self.column or "", f"last_{self.n}"]
            case _:
                what = [subject, self.column or "", str(self.aggregate)]
        delay = f"delay_{short_duration(self.label_delay)}" if self.label_delay else ""
        return [prefix, *what, suffix, delay]


def _window_name(window: Window) -> tuple[str, str]:
    match window:
        case Sliding():
            return "", short_duration(window.length)
        case Session():
            return "previous_session" if window.back else "session", ""
        case Lifetime():
            return "lifetime", ""


class Function(StrEnum):
    """What a derived feature makes of others (or of the instant of reading, `as_of`)."""

    HOUR = "hour"  # of day, UTC, of an instant in µs
    WEEKDAY = "weekday"  # Monday is 0
    IS_WEEKEND = "is_weekend"  # Saturday and Sunday are 1
    IS_NIGHT = "is_night"  # hour <= 6 is 1
    RATIO = "ratio"  # null where the divisor is null or 0


AS_OF = "as_of"


@dataclass(frozen=True)
class Derived:
    """A feature computed from others of its view, row by row.

    Attributes:
        name: its name; it cannot be derived.
        function: what is computed.
        of: names of features of the same view, or `as_of`, the instant of reading in µs.
        description: what it means.
    """

    name: str
    function: Function
    of: tuple[str, ...]
    description: str = ""


def short_duration(duration: timedelta) -> str:
    """Write a duration in its largest whole unit (days only from two days on).

    >>> [short_duration(timedelta(**{u: n})) for u, n in
    ...  [("minutes", 5), ("hours", 1), ("hours", 24), ("days", 7), ("milliseconds", 20)]]
    ['5m', '1h', '24h', '7d', '20000us']
    """
    us = duration // timedelta(microseconds=1)
    if us % 1_000_000:
        return f"{us}us"
    seconds = us // 1_000_000
    if seconds % 86_400 == 0 and seconds >= 2 * 86_400:
        return f"{seconds // 86_400}d"
    for unit, suffix in ((3_600, "h"), (60, "m")):
        if seconds % unit == 0:
            return f"{seconds // unit}{suffix}"
    return f"{seconds}s"
