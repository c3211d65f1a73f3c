"""The default stream features of customers, corridors and counterparties, declared as data.

Two views of one customer's events, `customer_session` (the open session and the one before) and
`customer_activity` (sliding windows and lifetimes); one view each of the corridor's and the
counterparty's. Names, dtypes and Feast fields derive from here.
"""

from __future__ import annotations

from datetime import timedelta

from feature_repo.contracts.definition import (
    Aggregate,
    Derived,
    Feature,
    Filter,
    Function,
    Lifetime,
    Session,
    Sliding,
)
from feature_repo.contracts.events import ACTIONS, EVENT_TYPES, EventType
from feature_repo.contracts.feature_set import EntityKey, FeatureSet, View

SESSION_GAP = timedelta(minutes=30)
WINDOWS: tuple[timedelta, ...] = (
    timedelta(minutes=5),
    timedelta(hours=1),
    timedelta(hours=24),
    timedelta(days=7),
)

CUSTOMER = EntityKey("customer", ("customer_id",), "customer_id")
# A corridor sees every payment between two countries: its events are summed into tiles.
CORRIDOR = EntityKey(
    "corridor", ("send_country", "receive_country"), "corridor", hop=timedelta(minutes=15)
)
COUNTERPARTY = EntityKey("counterparty", ("counterparty_id",), "counterparty_id")

_PAGE_VIEW = Filter((EventType.PAGE_VIEW,))
_PAYMENT = Filter((EventType.PAYMENT_SUBMITTED,))
_FAILED = Filter((EventType.PAYMENT_FAILED,))
_ACTION = Filter(tuple(kind for kind in EVENT_TYPES if kind in ACTIONS), name="action")
_PAYABLE = Filter((EventType.QUOTE, EventType.PAYMENT_SUBMITTED), name="payable")
_SESSION = Session(SESSION_GAP)
_BEFORE = Session(SESSION_GAP, back=1)
_WEEK = Sliding(timedelta(days=7))

CUSTOMER_SESSION = View(
    "customer_session",
    CUSTOMER,
    (
        Feature(Aggregate.START, _SESSION),
        Derived("session_start_hour", Function.HOUR, ("session_start_us",), "hour (UTC) it began"),
        Derived(
            "session_start_weekday",
            Function.WEEKDAY,
            ("session_start_us",),
            "weekday (UTC, Monday 0) it began",
        ),
        Feature(Aggregate.DURATION, _SESSION),
        Feature(Aggregate.COUNT, _SESSION),
        Feature(Aggregate.COUNT, _SESSION, events=_PAGE_VIEW),
        Feature(Aggregate.COUNT, _SESSION, events=_ACTION),
        Feature(Aggregate.COUNT, _SESSION, events=_PAYMENT),
        Feature(Aggregate.COUNT, _SESSION, events=_FAILED),
        Feature(Aggregate.DISTINCT_COUNT, _SESSION, "page"),
        Feature(Aggregate.LAST, _SESSION, "total_ref_minor", _PAYABLE),
        Derived(
            "session_pay_rate",
            Function.RATIO,
            ("session_payable_total_ref_minor_last", "session_duration_s"),
            "total to pay / session duration, reference minor units a second",
        ),
        Feature(Aggregate.LAST, _SESSION, "corridor"),
        Feature(Aggregate.LAST, _SESSION, "channel"),
        Feature(Aggregate.LAST, _SESSION, "device"),
        Feature(Aggregate.DURATION, _BEFORE),
        Feature(Aggregate.COUNT, _BEFORE),
        Feature(Aggregate.TIME_SINCE, _BEFORE),
    ),
    description="The open session of a customer and the one before; empty once it has ended",
)

CUSTOMER_ACTIVITY = View(
    "customer_activity",
    CUSTOMER,
    (
        *(
            feature
            for window in map(Sliding, WINDOWS)
            for feature in (
                Feature(Aggregate.COUNT, window),
                Feature(Aggregate.COUNT, window, events=_PAGE_VIEW),
                Feature(Aggregate.COUNT, window, events=_PAYMENT),
                Feature(Aggregate.COUNT, window, events=_FAILED),
                Feature(Aggregate.SUM, window, "amount_ref_minor", _PAYMENT),
                Feature(Aggregate.SUM, window, "fee_ref_minor", _PAYMENT),
            )
        ),
        Feature(Aggregate.MEAN, _WEEK, "amount_ref_minor", _PAYMENT),
        Feature(Aggregate.STD, _WEEK, "amount_ref_minor", _PAYMENT),
        Feature(Aggregate.MAX, _WEEK, "amount_ref_minor", _PAYMENT),
        Feature(Aggregate.DISTINCT_COUNT, _WEEK, "counterparty_id", _PAYMENT),
        Feature(Aggregate.COUNT, Lifetime()),
        Feature(Aggregate.SUM, Lifetime(), "amount_ref_minor", _PAYMENT),
        Feature(Aggregate.TIME_SINCE, Lifetime(), events=_PAYMENT),
    ),
    description="What a customer did in sliding windows and ever",
)

CORRIDOR_ACTIVITY = View(
    "corridor_activity",
    CORRIDOR,
    tuple(
        feature
        for window in (Sliding(timedelta(hours=1)), Sliding(timedelta(hours=24)))
        for feature in (
            Feature(Aggregate.COUNT, window, events=_PAYMENT),
            Feature(Aggregate.COUNT, window, events=_FAILED),
            Feature(Aggregate.SUM, window, "amount_ref_minor", _PAYMENT),
        )
    ),
    prefix="corridor_",
    description="Payments between two countries; windows reach back up to 15 minutes further",
)

COUNTERPARTY_ACTIVITY = View(
    "counterparty_activity",
    COUNTERPARTY,
    tuple(
        feature
        for window in (Sliding(timedelta(hours=24)), _WEEK)
        for feature in (
            Feature(Aggregate.COUNT, window, events=_PAYMENT),
            Feature(Aggregate.SUM, window, "amount_ref_minor", _PAYMENT),
            Feature(Aggregate.DISTINCT_COUNT, window, "customer_id", _PAYMENT),
        )
    ),
    prefix="counterparty_",
    description="Payments received, and from how many customers",
)

FEATURE_SET = FeatureSet(
    "default", (CUSTOMER_SESSION, CUSTOMER_ACTIVITY, CORRIDOR_ACTIVITY, COUNTERPARTY_ACTIVITY)
)
