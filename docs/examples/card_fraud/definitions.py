"""The 15 inputs of the Fraud Detection Handbook's baseline, as definitions.

Le Borgne, Siblini, Lebichot, Bontempi: Reproducible Machine Learning for Credit Card Fraud
Detection (ULB 2022), chapter 3, "Baseline feature transformation". Written from the description.
"""

from __future__ import annotations

from datetime import timedelta

from feature_repo.contracts.definition import (
    AS_OF,
    Aggregate,
    Derived,
    Feature,
    Filter,
    Function,
    Lifetime,
    Sliding,
)
from feature_repo.contracts.events import EventType
from feature_repo.contracts.feature_set import EntityKey, FeatureSet, View

WINDOWS = tuple(Sliding(timedelta(days=days)) for days in (1, 7, 30))
# A label that is to train a model is only used once it is this old; so are the counts beside it.
LABEL_DELAY = timedelta(days=7)

TRANSACTION = Filter((EventType.PAYMENT_SUBMITTED,), name="transaction")
FRAUD = Filter((EventType.LABEL,), name="fraud")

CUSTOMER = EntityKey("customer", ("customer_id",), "customer_id")
TERMINAL = EntityKey("terminal", ("counterparty_id",), "counterparty_id")

CUSTOMER_TRANSACTIONS = View(
    "customer_transactions",
    CUSTOMER,
    (
        Feature(Aggregate.LAST, Lifetime(), "amount_ref_minor", TRANSACTION),
        Derived("is_weekend", Function.IS_WEEKEND, (AS_OF,), "1 on Saturdays and Sundays"),
        Derived("is_night", Function.IS_NIGHT, (AS_OF,), "1 from midnight until 06:59"),
        *(Feature(Aggregate.COUNT, window, events=TRANSACTION) for window in WINDOWS),
        *(Feature(Aggregate.MEAN, window, "amount_ref_minor", TRANSACTION) for window in WINDOWS),
    ),
    description="What the cardholder spent, the current transaction included",
)

TERMINAL_RISK = View(
    "terminal_risk",
    TERMINAL,
    (
        *(
            Feature(Aggregate.COUNT, window, events=TRANSACTION, label_delay=LABEL_DELAY)
            for window in WINDOWS
        ),
        *(
            Feature(
                Aggregate.MEAN, window, "label_value", FRAUD, label_delay=LABEL_DELAY, default=0.0
            )
            for window in WINDOWS
        ),
    ),
    prefix="terminal_",
    description="How many transactions a terminal saw, and the share of frauds, a week ago",
)

FEATURE_SET = FeatureSet("card_fraud", (CUSTOMER_TRANSACTIONS, TERMINAL_RISK))
