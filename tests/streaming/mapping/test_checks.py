"""The batch's rules are the single event's rules: same rows, same field, same expectation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import msgspec
import polars as pl
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.contracts.errors import EventError
from feature_repo.contracts.events import (
    DERIVED_FIELDS,
    EARLIEST_EVENT,
    EVENT_SCHEMA,
    LATEST_EVENT,
    MAX_AMOUNT_MINOR,
    Event,
)
from feature_repo.contracts.money import ExchangeRates
from streaming.mapping.checks import violations

RATES = ExchangeRates()
US = timedelta(microseconds=1)
instants = st.sampled_from(
    [EARLIEST_EVENT, EARLIEST_EVENT - US, LATEST_EVENT, LATEST_EVENT - US]
) | st.datetimes(timezones=st.just(UTC))
good_instants = st.integers(1_514_764_800, 1_893_456_000).map(
    lambda second: datetime.fromtimestamp(second, UTC)
)
countries = st.none() | st.sampled_from(["GB", "NG", "gb", "G", "GBR", "", "GB\n", "ÄÖ", "G1"])
amounts = st.none() | st.sampled_from([0, 1, -1, MAX_AMOUNT_MINOR, MAX_AMOUNT_MINOR + 1, 12_345])
currencies = st.none() | st.sampled_from(["GBP", "USD", "gbp", "US", "USD\n", "XXX", ""])
documents = st.fixed_dictionaries(
    {
        "event_id": st.sampled_from(["", "e1", "e1", "e2"]),
        "event_time": st.one_of(good_instants, good_instants, instants),
        "customer_id": st.sampled_from(["", "c1", "c1", "c2"]),
        "event_type": st.sampled_from(["label", "page_view", "payment_submitted", "transfer", ""]),
    },
    optional={
        "page": st.none() | st.text(max_size=3),
        "send_country": countries,
        "receive_country": countries,
        "ip_country": countries,
        "amount_minor": amounts,
        "fee_minor": amounts,
        "currency": currencies,
        "label_event_id": st.none() | st.sampled_from(["e0", ""]),
        "label_value": st.none() | st.sampled_from([0.0, 1.0]),
        "label_arrival_time": st.none() | instants,
    },
)


def single(document: dict[str, Any]) -> tuple[str, str] | None:
    """What an event's own validation says first: field and expectation."""
    try:
        event = msgspec.convert(document, Event).validated()
    except msgspec.ValidationError as error:
        return str(error).rpartition("$.")[2].rstrip("`"), "one of "
    except EventError as error:
        return error.field, error.expected
    if event.amount_minor is not None or event.fee_minor is not None:
        day = (event.event_time - datetime(1970, 1, 1, tzinfo=UTC)) // US
        if not RATES.factors(pa.array([event.currency]), pl.Series([day]).to_numpy())[0] > 0:
            return "currency", "a currency with an exchange rate on that day"
    return None


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(documents, min_size=1, max_size=30))
def test_batches_are_judged_as_single_events_are(rows: list[dict[str, Any]]) -> None:
    names = [name for name in EVENT_SCHEMA.names if name not in DERIVED_FIELDS]
    table = pa.table(
        {name: pa.array([row.get(name) for row in rows], EVENT_SCHEMA.field(name).type)
         for name in names}
    )  # fmt: skip
    first: dict[int, tuple[str, str]] = {}
    for violation in violations(cast(pl.DataFrame, pl.from_arrow(table)), RATES):
        for row in violation.rows.arg_true():
            first.setdefault(row, (violation.field, violation.expected))
    for at, row in enumerate(rows):
        expected = single(row)
        if expected is None:
            assert at not in first
        else:
            assert first[at][0] == expected[0]
            assert first[at][1].startswith(expected[1])


def test_missing_required_fields_are_violations() -> None:
    table = pa.table({field.name: pa.nulls(1, field.type) for field in EVENT_SCHEMA})
    found = list(violations(cast(pl.DataFrame, pl.from_arrow(table)), RATES))
    assert [violation.field for violation in found] == [
        "event_type",
        "event_id",
        "customer_id",
        "event_time",
    ]


def test_an_empty_batch_has_no_violations() -> None:
    empty = cast(pl.DataFrame, pl.from_arrow(EVENT_SCHEMA.empty_table()))
    assert not list(violations(empty, RATES))


def test_an_amount_worth_more_than_fits_is_a_violation(tmp_path: Path) -> None:
    (tmp_path / "rates.csv").write_text("date,currency,usd_per_unit\n2000-01-01,XBT,100000\n")
    rates = ExchangeRates(tmp_path / "rates.csv")
    at = datetime(2026, 1, 1, tzinfo=UTC)
    document = {"event_id": "e", "event_time": at, "customer_id": "c", "event_type": "quote"}
    rows = [
        document | {"currency": currency, "amount_minor": amount, "fee_minor": fee}
        for currency, amount, fee in [
            ("XBT", 10**15, None), ("XBT", 10, 10**15), ("XBT", 10, 10), ("GBP", 10**15, None),
            ("XBT", 10**15 + 1, None),
        ]
    ]  # fmt: skip
    events = cast(pl.DataFrame, pl.from_arrow(pa.Table.from_pylist(rows, EVENT_SCHEMA)))
    found = [
        (violation.field, violation.rows.arg_true().to_list(), violation.expected)
        for violation in violations(events, rates)
    ]
    assert found == [
        ("amount_minor", [4], f"0..{MAX_AMOUNT_MINOR} minor units"),
        ("currency", [3], "a currency with an exchange rate on that day"),
        ("amount_minor", [0, 4], "an amount worth at most 9007199254740992 USD cents on that day"),
        ("fee_minor", [1], "an amount worth at most 9007199254740992 USD cents on that day"),
    ]
