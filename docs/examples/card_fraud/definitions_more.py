"""The handbook's 15 inputs and what else its events tell: of the card, and of the terminal.

The card's habits up to a week ago, against which its latest days stand out, and the terminal's
known frauds over more windows, with when they began and whether honest payments came since. All
labels are a week old, as in `definitions.py`, whose features come first.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from feature_repo.contracts.definition import (
    Aggregate,
    Comparison,
    Feature,
    Filter,
    Lifetime,
    Operator,
    Sliding,
)
from feature_repo.contracts.events import EventType
from feature_repo.contracts.feature_set import FeatureSet, View, load_feature_set

BOOK = load_feature_set(Path(__file__).with_name("definitions.py"))

LABEL_DELAY = timedelta(days=7)
# Everything before this very moment: an event that is being judged is not part of its own past.
BEFORE = timedelta(microseconds=1)

TRANSACTION = Filter((EventType.PAYMENT_SUBMITTED,), name="transaction")
FRAUD = Filter((EventType.LABEL,), name="fraud")
FRAUDULENT = Filter(
    (EventType.LABEL,), (Comparison("label_value", Operator.EQ, 1),), name="fraudulent"
)
HONEST = Filter((EventType.LABEL,), (Comparison("label_value", Operator.EQ, 0),), name="honest")


def days(*lengths: int) -> tuple[Sliding, ...]:
    """Windows of so many days."""
    return tuple(Sliding(timedelta(days=length)) for length in lengths)


CUSTOMER_HABITS = View(
    "customer_habits",
    BOOK.entity("customer"),
    (
        *(
            Feature(aggregate, Lifetime(), "amount_ref_minor", TRANSACTION, label_delay=LABEL_DELAY)
            for aggregate in (Aggregate.MEAN, Aggregate.STD, Aggregate.MAX)
        ),
        *(
            Feature(Aggregate.MAX, window, "amount_ref_minor", TRANSACTION, label_delay=BEFORE)
            for window in days(1, 7, 14)
        ),
        Feature(Aggregate.MEAN, Sliding(timedelta(days=14)), "amount_ref_minor", TRANSACTION),
        *(
            Feature(Aggregate.STD, window, "amount_ref_minor", TRANSACTION)
            for window in days(7, 30)
        ),
        Feature(Aggregate.MAX, Sliding(timedelta(days=30)), "amount_ref_minor", TRANSACTION),
    ),
    description="What the cardholder used to spend, and how the latest days differ",
)

TERMINAL_HISTORY = View(
    "terminal_history",
    BOOK.entity("terminal"),
    (
        *(
            Feature(
                Aggregate.MEAN, window, "label_value", FRAUD, label_delay=LABEL_DELAY, default=0.0
            )
            for window in days(3, 14, 21, 28)
        ),
        *(
            Feature(Aggregate.SUM, window, "label_value", FRAUD, label_delay=LABEL_DELAY)
            for window in days(7, 14, 28)
        ),
        Feature(Aggregate.LAST, Lifetime(), "label_value", FRAUD, label_delay=LABEL_DELAY),
        *(
            Feature(Aggregate.START, window, events=FRAUDULENT, label_delay=LABEL_DELAY)
            for window in days(21, 28)
        ),
        *(
            Feature(Aggregate.TIME_SINCE, Lifetime(), events=events, label_delay=LABEL_DELAY)
            for events in (FRAUDULENT, HONEST)
        ),
    ),
    prefix="terminal_",
    description="Since when a terminal's known frauds last, and whether they went on",
)

FEATURE_SET = FeatureSet("card_fraud_more", (*BOOK.views, CUSTOMER_HABITS, TERMINAL_HISTORY))
