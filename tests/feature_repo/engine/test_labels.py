"""Labels count from when they became known, and leave the state in that order."""

from __future__ import annotations

from datetime import timedelta

import pytest

from feature_repo.contracts.definition import (
    Aggregate,
    Feature,
    Lifetime,
)
from feature_repo.contracts.feature_set import FeatureSet, View
from feature_repo.engine.program import compile_program
from feature_repo.engine.shard import Shard
from tests.feature_repo.engine.cases import START, Case, record
from tests.feature_repo.engine.checks import check_case
from tests.feature_repo.engine.small_set import (
    CUSTOMER,
    LABEL,
    MINUTE,
    PAYMENT,
    fold,
    payment,
    view,
)


def test_a_late_label_changes_the_rows_after_it_was_known() -> None:
    rate = Feature(Aggregate.MEAN, Lifetime(), "label_value", LABEL)
    late = record(
        event_id="l", event_time=START, label_arrival_time=START + 5 * MINUTE, customer_id="a",
        event_type="label", label_event_id="e", label_value=1.0,
    )  # fmt: skip
    # Only what some feature uses reaches the engine, so a count makes payments used.
    both = FeatureSet("both", (View("v", CUSTOMER, (rate, Feature(Aggregate.COUNT, Lifetime()))),))
    shard = Shard(compile_program(both, CUSTOMER))
    fold(shard, view(0, 5 * MINUTE), view(1, 6 * MINUTE))
    folded = fold(shard, late)
    assert folded.rows.column("event_id").to_pylist() == ["e1"]
    assert folded.rows.column(rate.name).to_pylist() == [1.0]
    assert folded.source.tolist() == [-1]


@pytest.mark.parametrize("lateness", [timedelta(seconds=1), timedelta(days=40)])
def test_labels_of_long_ago_settle_alike_however_they_come(lateness: timedelta) -> None:
    """A label of an event that no window reaches any more waits for its turn, alone."""
    aggregates = (Aggregate.SUM, Aggregate.STD, Aggregate.FIRST, Aggregate.LAST)
    chosen = tuple(Feature(one, Lifetime(), "label_value", LABEL) for one in aggregates)
    latest = Feature(Aggregate.LAST_N, Lifetime(), "label_event_id", LABEL, n=2)
    payments = Feature(Aggregate.SUM, Lifetime(), "amount_ref_minor", PAYMENT)
    views = (View("v", CUSTOMER, (*chosen, latest, payments)),)
    records = []
    for number in range(12):
        after = timedelta(days=3 * number)
        records.append(payment(number, after, 100 + number))
        records.append(
            record(
                event_id=f"l{number}", event_time=START + timedelta(days=number * 7 % 5),
                label_arrival_time=START + after + MINUTE, customer_id="a", event_type="label",
                label_event_id=f"e{number}", label_value=0.1 * number,
            )
        )  # fmt: skip
    for cuts in ((24,), tuple(range(1, 25)), (5, 6, 17, 24)):
        check_case(Case(FeatureSet("labels", views, lateness), tuple(records), cuts))
    if lateness > timedelta(days=30):
        turned = [*records[12:], *records[:12]]
        check_case(Case(FeatureSet("labels", views, lateness), tuple(turned), (3, 12, 24)))
