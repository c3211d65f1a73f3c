"""Names, value types and descriptions derive from a definition, and are never written twice."""

from __future__ import annotations

from datetime import timedelta

import pytest

from feature_repo.contracts.definition import (
    Aggregate,
    Comparison,
    Derived,
    Dtype,
    Feature,
    Filter,
    Function,
    Lifetime,
    Operator,
    Session,
    Sliding,
    short_duration,
)
from feature_repo.contracts.definition_types import describe, dtype_of
from feature_repo.contracts.events import EventType
from feature_repo.contracts.features import FEATURE_SET

HOUR = Sliding(timedelta(hours=1))
PAYMENT = Filter((EventType.PAYMENT_SUBMITTED,))
LARGE = Filter((EventType.QUOTE,), (Comparison("amount_minor", Operator.GT, 10_000),))
WEEK = timedelta(days=7)

NAMED = [
    (Feature(Aggregate.COUNT, HOUR), "event_count_1h", Dtype.INT64),
    (Feature(Aggregate.COUNT, HOUR, "page"), "page_count_1h", Dtype.INT64),
    (Feature(Aggregate.SUM, HOUR, "amount_minor"), "amount_minor_sum_1h", Dtype.INT64),
    (Feature(Aggregate.SUM, HOUR, "label_value"), "label_value_sum_1h", Dtype.FLOAT64),
    (
        Feature(Aggregate.MEAN, HOUR, "fee_minor", PAYMENT),
        "payment_submitted_fee_minor_mean_1h",
        Dtype.FLOAT64,
    ),
    (Feature(Aggregate.MIN, HOUR, "fee_minor"), "fee_minor_min_1h", Dtype.INT64),
    (Feature(Aggregate.MAX, HOUR, "label_value"), "label_value_max_1h", Dtype.FLOAT64),
    (Feature(Aggregate.STD, HOUR, "fee_minor"), "fee_minor_std_1h", Dtype.FLOAT64),
    (Feature(Aggregate.FIRST, Session(), "page"), "session_page_first", Dtype.STRING),
    (Feature(Aggregate.LAST, Session(back=1), "channel"), "previous_session_channel_last",
     Dtype.STRING),
    (Feature(Aggregate.DISTINCT_COUNT, HOUR, "page"), "page_distinct_count_1h", Dtype.INT64),
    (Feature(Aggregate.TIME_SINCE, Lifetime()), "lifetime_seconds_since_event", Dtype.FLOAT64),
    (
        Feature(Aggregate.TIME_SINCE, HOUR, events=PAYMENT),
        "seconds_since_payment_submitted_1h",
        Dtype.FLOAT64,
    ),
    (Feature(Aggregate.LAST_N, HOUR, "page", n=5), "page_last_5_1h", Dtype.STRING_LIST),
    (Feature(Aggregate.LAST_N, HOUR, "fee_minor", n=2), "fee_minor_last_2_1h", Dtype.INT64_LIST),
    (Feature(Aggregate.RATE, HOUR), "event_rate_1h", Dtype.FLOAT64),
    (Feature(Aggregate.RATE, Session(), "amount_minor"), "session_amount_minor_rate",
     Dtype.FLOAT64),
    (Feature(Aggregate.START, Session()), "session_start_us", Dtype.INT64),
    (Feature(Aggregate.DURATION, Session()), "session_duration_s", Dtype.FLOAT64),
    (Feature(Aggregate.COUNT, HOUR, events=LARGE), "quote_amount_minor_gt_10000_count_1h",
     Dtype.INT64),
    (
        Feature(Aggregate.COUNT, Sliding(WEEK), events=PAYMENT, label_delay=WEEK),
        "payment_submitted_count_7d_delay_7d",
        Dtype.INT64,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("feature", "name", "dtype"), NAMED)
def test_name_and_dtype_derive(feature: Feature, name: str, dtype: Dtype) -> None:
    assert (feature.name, dtype_of(feature)) == (name, dtype)


@pytest.mark.parametrize(
    ("value", "name"),
    [(-5, "amount_minor_le__5"), (0.5, "amount_minor_le_0p5"), ("GB-NG", "amount_minor_le_gb_ng")],
)
def test_a_comparison_is_named_in_a_columns_letters(value: float | str, name: str) -> None:
    comparison = Comparison("amount_minor", Operator.LE, value)
    assert comparison.name == name
    assert comparison.name.isidentifier()


def test_a_filter_may_be_given_a_name() -> None:
    feature = Feature(Aggregate.COUNT, HOUR, events=Filter(LARGE.event_types, LARGE.where, "big"))
    assert feature.name == "big_count_1h"


def test_derived_features_are_numbers() -> None:
    assert dtype_of(Derived("r", Function.RATIO, ("a", "b"))) is Dtype.FLOAT64
    assert dtype_of(Derived("h", Function.HOUR, ("as_of",))) is Dtype.INT64


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(microseconds=1), "1us"),
        (timedelta(seconds=90), "90s"),
        (timedelta(seconds=90, microseconds=1), "90000001us"),
        (timedelta(minutes=90), "90m"),
        (timedelta(days=1), "24h"),
        (timedelta(days=2), "2d"),
        (timedelta(days=2, hours=1), "49h"),
    ],
)
def test_a_duration_is_written_in_its_largest_whole_unit(duration: timedelta, text: str) -> None:
    assert short_duration(duration) == text


def test_every_feature_is_described_in_words() -> None:
    for view in FEATURE_SET.views:
        for feature in view.features:
            assert describe(feature)
            assert "\n" not in describe(feature)
    assert describe(NAMED[-1][0]) == (
        "number of payment_submitted events in the last 7d, older than 7d"
    )
    assert describe(NAMED[8][0]) == "first of page of events in the session"


def test_names_of_the_default_set_are_identifiers() -> None:
    names = [output.name for entity in FEATURE_SET.entities
             for output in FEATURE_SET.outputs_of(entity)]  # fmt: skip
    assert len(names) == len(set(names))
    assert all(name.isidentifier() and name == name.lower() for name in names)
