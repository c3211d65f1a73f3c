"""The stream features, declared as data: names, dtypes and Feast fields derive from here.

Two views of one customer's events:

- `customer_session`: the current session, ended by a silence longer than `SESSION_GAP`;
- `customer_activity`: sliding windows (t - window, t] of counts and money sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from feature_repo.contracts.events import EventType

SESSION_GAP = timedelta(minutes=30)
WINDOWS: tuple[timedelta, ...] = (
    timedelta(minutes=5),
    timedelta(hours=1),
    timedelta(hours=24),
    timedelta(days=7),
)
LONGEST_WINDOW = max(WINDOWS)


class Dtype(StrEnum):
    """Value types of features, named as in Feast."""

    INT64 = "Int64"
    FLOAT64 = "Float64"
    STRING = "String"


@dataclass(frozen=True)
class Feature:
    """A feature's name, type and meaning."""

    name: str
    dtype: Dtype
    description: str


@dataclass(frozen=True)
class WindowFeature:
    """An aggregate over a customer's events in (t - window, t].

    Attributes:
        aggregate: `count` of the events, or `sum` of `column`.
        window: length of the sliding window.
        event_types: the events that count; empty means every session event.
        column: the integer column summed, None for counts.
    """

    aggregate: str
    window: timedelta
    event_types: tuple[EventType, ...] = ()
    column: str | None = None

    @property
    def name(self) -> str:
        """The derived name.

        >>> WindowFeature("count", timedelta(minutes=5)).name
        'event_count_5m'
        >>> payment = (EventType.PAYMENT_SUBMITTED,)
        >>> WindowFeature("sum", timedelta(days=7), payment, "amount_ref_minor").name
        'payment_submitted_amount_ref_minor_sum_7d'
        """
        subject = "_".join(self.event_types) or "event"
        column = f"_{self.column}" if self.column else ""
        return f"{subject}{column}_{self.aggregate}_{short_duration(self.window)}"

    @property
    def feature(self) -> Feature:
        """Name, type and meaning, for Feast and for people."""
        events = ", ".join(self.event_types) or "session events"
        what = f"sum of {self.column} of {events}" if self.column else f"number of {events}"
        return Feature(self.name, Dtype.INT64, f"{what} in the last {short_duration(self.window)}")


def short_duration(duration: timedelta) -> str:
    """Write a duration in its largest whole unit (days only from two days on).

    >>> [short_duration(timedelta(**{u: n})) for u, n in
    ...  [("minutes", 5), ("hours", 1), ("hours", 24), ("days", 7)]]
    ['5m', '1h', '24h', '7d']
    """
    seconds = int(duration.total_seconds())
    if seconds % 86_400 == 0 and seconds >= 2 * 86_400:
        return f"{seconds // 86_400}d"
    for unit, suffix in ((3_600, "h"), (60, "m")):
        if seconds % unit == 0:
            return f"{seconds // unit}{suffix}"
    return f"{seconds}s"


SESSION_FEATURES: tuple[Feature, ...] = (
    Feature("session_start_us", Dtype.INT64, "first event of the session, µs since 1970"),
    Feature("session_start_hour", Dtype.INT64, "hour of day (UTC) of the session's start"),
    Feature("session_start_weekday", Dtype.INT64, "weekday (UTC, Monday 0) of the start"),
    Feature("session_duration_s", Dtype.FLOAT64, "seconds from the first event to the latest"),
    Feature("session_event_count", Dtype.INT64, "events in the session"),
    Feature("session_page_view_count", Dtype.INT64, "page views in the session"),
    Feature("session_action_count", Dtype.INT64, "quotes, recipients, KYC steps, payments"),
    Feature("session_distinct_pages", Dtype.INT64, "different pages seen in the session"),
    Feature(
        "session_total_to_pay_ref_minor",
        Dtype.INT64,
        "amount + fee of the session's last quote or payment, reference minor units",
    ),
    Feature(
        "session_pay_rate",
        Dtype.FLOAT64,
        "total to pay / session duration, reference minor units a second",
    ),
    Feature("session_payment_submitted_count", Dtype.INT64, "payments tried in the session"),
    Feature("session_payment_failed_count", Dtype.INT64, "payments failed in the session"),
    Feature("session_corridor", Dtype.STRING, "latest corridor of the session, send-receive"),
    Feature("session_channel", Dtype.STRING, "latest channel of the session"),
    Feature("session_device", Dtype.STRING, "latest device of the session"),
    Feature("seconds_since_last_event", Dtype.FLOAT64, "since the event before, any session"),
    Feature("previous_session_duration_s", Dtype.FLOAT64, "length of the session before"),
    Feature("previous_session_event_count", Dtype.INT64, "events in the session before"),
)

_PAYMENT = (EventType.PAYMENT_SUBMITTED,)
ACTIVITY_FEATURES: tuple[WindowFeature, ...] = tuple(
    feature
    for window in WINDOWS
    for feature in (
        WindowFeature("count", window),
        WindowFeature("count", window, (EventType.PAGE_VIEW,)),
        WindowFeature("count", window, _PAYMENT),
        WindowFeature("count", window, (EventType.PAYMENT_FAILED,)),
        WindowFeature("sum", window, _PAYMENT, "amount_ref_minor"),
        WindowFeature("sum", window, _PAYMENT, "fee_ref_minor"),
    )
)

SESSION_VIEW = "customer_session"
ACTIVITY_VIEW = "customer_activity"

# Feature view -> its features, in the order in which they are stored and written.
STREAM_VIEWS: dict[str, tuple[Feature, ...]] = {
    SESSION_VIEW: SESSION_FEATURES,
    ACTIVITY_VIEW: tuple(window.feature for window in ACTIVITY_FEATURES),
}
STREAM_FEATURES: tuple[Feature, ...] = tuple(
    feature for features in STREAM_VIEWS.values() for feature in features
)
