"""A small set of definitions, and short ways to make its events and fold them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from feature_repo.contracts.definition import (
    Aggregate,
    Feature,
    Filter,
    Lifetime,
    Session,
    Sliding,
)
from feature_repo.contracts.events import EventType
from feature_repo.contracts.feature_set import EntityKey, FeatureSet, View
from feature_repo.engine.folded import Folded
from feature_repo.engine.projection import project
from feature_repo.engine.shard import Shard
from tests.feature_repo.engine.cases import START, batch_of, record
from tests.feature_repo.engine.oracle_aggregates import Record

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
CUSTOMER = EntityKey("customer", ("customer_id",), "customer_id")
PAYMENT = Filter((EventType.PAYMENT_SUBMITTED,))
LABEL = Filter((EventType.LABEL,))
SMALL = FeatureSet(
    "small",
    (
        View(
            "activity",
            CUSTOMER,
            (
                Feature(Aggregate.COUNT, Sliding(timedelta(hours=1))),
                Feature(Aggregate.SUM, Sliding(timedelta(days=2)), "amount_ref_minor", PAYMENT),
                Feature(Aggregate.LAST, Session(), "page"),
                Feature(Aggregate.DURATION, Session(back=1)),
                Feature(Aggregate.STD, Lifetime(), "amount_ref_minor", PAYMENT),
                Feature(Aggregate.LAST_N, Lifetime(), "page", n=3),
            ),
        ),
    ),
)


def view(number: int, after: timedelta, customer: str = "a", **fields: Any) -> Record:
    return record(
        event_id=f"e{number}",
        event_time=START + after,
        customer_id=customer,
        event_type="page_view",
        page=f"p{number % 5}",
        **fields,
    )


def payment(number: int, after: timedelta, amount: int) -> Record:
    event = view(number, after, amount_ref_minor=amount)
    return event | {"event_type": "payment_submitted"}


def fold(shard: Shard, *records: Record) -> Folded:
    return shard.fold(project(shard.program, batch_of(list(records))))
