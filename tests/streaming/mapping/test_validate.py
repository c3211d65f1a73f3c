"""Events without a mapping are held to the same rules, whatever bytes a producer sends."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.contracts.errors import InputError
from feature_repo.contracts.events import DERIVED_FIELDS, EVENT_SCHEMA
from feature_repo.contracts.money import MAX_REFERENCE_MINOR, ExchangeRates
from streaming.mapping import validate
from streaming.mapping.dead_letters import DeadLetter, DeadLetters
from streaming.mapping.surely_valid import surely_valid
from tests.streaming.made_events import batch_of, page_view, payment
from tests.streaming.mapping.test_checks import documents, single

RATES = ExchangeRates()


def split_valid(batch: pa.RecordBatch, first_row: int) -> tuple[pa.RecordBatch, list[DeadLetter]]:
    """As `validate` does it, with a verdict that the quick look must share."""
    valid, letters = validate.split_valid(batch, first_row)
    assert surely_valid(batch) == (not letters)
    return valid, letters


def batch_with(name: str, values: list[Any] | pa.Array, events: pa.RecordBatch) -> pa.RecordBatch:
    """The events with another column."""
    at = EVENT_SCHEMA.get_field_index(name)
    column = values if isinstance(values, pa.Array) else pa.array(values, EVENT_SCHEMA[at].type)
    columns = [*events.columns[:at], column, *events.columns[at + 1 :]]
    return pa.RecordBatch.from_arrays(columns, schema=EVENT_SCHEMA)


def views(count: int = 3) -> pa.RecordBatch:
    return batch_of([page_view(number) for number in range(count)])


def payments(count: int = 3) -> pa.RecordBatch:
    return batch_of([payment(number) for number in range(count)])


def texts(values: list[bytes | None]) -> pa.Array:
    """Bytes under a text type, as a careless producer sends them."""
    raw = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(documents, min_size=1, max_size=30), st.integers(0, 2**60))
def test_a_batch_is_judged_as_single_events_are(rows: list[dict[str, Any]], start: int) -> None:
    batch = RATES.with_reference_amounts(
        pa.RecordBatch.from_arrays(
            [
                pa.nulls(len(rows), field.type)
                if field.name in DERIVED_FIELDS
                else pa.array([row.get(field.name) for row in rows], field.type)
                for field in EVENT_SCHEMA
            ],
            schema=EVENT_SCHEMA,
        )
    )
    valid, letters = split_valid(batch, start)
    found = {letter.row - start: letter for letter in letters}
    assert [letter.row for letter in letters] == sorted(start + at for at in found)
    kept = [at for at in range(len(rows)) if at not in found]
    assert valid.equals(batch.take(pa.array(kept, pa.int64())))
    for at, row in enumerate(rows):
        said = single(row)
        if said is None:
            assert at not in found
            continue
        field, expected = said
        if "exchange rate" in expected:  # of which a batch without its worth is the consequence
            field = "amount_ref_minor" if row.get("amount_minor") is not None else "fee_ref_minor"
            expected = "the USD cents of "
        assert found[at].field == field
        assert found[at].reason.startswith(f"expected {expected}")
        assert found[at].record == batch.slice(at, 1).to_pylist()[0]


def test_valid_events_are_handed_on_as_they_are() -> None:
    batch = batch_of([page_view(1), payment(2)])
    valid, letters = split_valid(batch, 7)
    assert valid is batch
    assert letters == []


def test_an_empty_batch() -> None:
    batch = views().slice(0, 0)
    assert split_valid(batch, 0) == (batch, [])


@pytest.mark.parametrize("name", ["event_id", "event_time", "customer_id", "event_type"])
def test_what_must_be_there_is_null(name: str) -> None:
    values = views()[name].to_pylist()
    valid, (letter,) = split_valid(batch_with(name, [values[0], None, values[2]], views()), 10)
    assert (letter.row, letter.field, letter.value) == (11, name, None)
    assert valid["event_id"].to_pylist() == ["e0", "e2"]


def test_an_unknown_event_type() -> None:
    batch = batch_with("event_type", ["page_view", "transfer", "login"], views())
    valid, (letter,) = split_valid(batch, 0)
    assert (letter.row, letter.field, letter.value) == (1, "event_type", "transfer")
    assert letter.reason.startswith("expected one of login, page_view")
    assert len(valid) == 2


@pytest.mark.parametrize("name", ["event_time", "label_arrival_time"])
def test_instants_beyond_the_calendar_are_shown_as_their_number(name: str, tmp_path: Path) -> None:
    good = 1_750_000_000_000_000
    numbers = [2**63 - 1, good, -(2**63), -(2**63) + 1, 0]
    times = pa.array(numbers, pa.int64()).cast(EVENT_SCHEMA.field(name).type)
    valid, letters = split_valid(batch_with(name, times, views(5)), 0)
    assert valid["event_id"].to_pylist() == ["e1"]
    assert [letter.row for letter in letters] == [0, 2, 3, 4]
    assert [letter.value for letter in letters] == [
        2**63 - 1, -(2**63), -(2**63) + 1, datetime(1970, 1, 1, tzinfo=UTC),
    ]  # fmt: skip
    assert {letter.reason for letter in letters} == {"expected an instant in 2000..2099"}
    with DeadLetters(tmp_path / "x.jsonl") as written:
        written.extend(letters)
    lines = [json.loads(line) for line in written.path.read_text().splitlines()]
    assert lines[0]["record"][name] == 2**63 - 1
    assert lines[3]["value"] == "1970-01-01T00:00:00Z"


def test_an_amount_without_currency() -> None:
    batch = batch_with("currency", ["GBP", None, "GBP"], payments())
    (letter,) = split_valid(batch, 0)[1]
    assert (letter.row, letter.field) == (1, "currency")
    assert letter.reason == "expected a currency beside amount_minor"


@pytest.mark.parametrize("name", ["amount", "fee"])
def test_an_amount_whose_worth_is_missing(name: str) -> None:
    worth = payments()[f"{name}_ref_minor"].to_pylist()
    batch = batch_with(f"{name}_ref_minor", [worth[0], worth[1], None], payments())
    valid, (letter,) = split_valid(batch, 0)
    assert (letter.row, letter.field, letter.value) == (2, f"{name}_ref_minor", None)
    assert "the producer must add" in letter.reason
    assert "ValkeyLog.append does" in letter.reason
    assert len(valid) == 2


@pytest.mark.parametrize("garbage", [-(2**63), -1, MAX_REFERENCE_MINOR + 1])
def test_a_worth_that_is_none(garbage: int) -> None:
    batch = batch_with("amount_ref_minor", [0, garbage, MAX_REFERENCE_MINOR], payments())
    valid, (letter,) = split_valid(batch, 0)
    assert (letter.row, letter.field, letter.value) == (1, "amount_ref_minor", garbage)
    assert len(valid) == 2


def test_texts_that_are_not_utf8(tmp_path: Path) -> None:
    batch = batch_with("page", texts([b"ok", b"caf\xe9", None]), views())
    batch = batch_with("customer_id", ["c1", "c1", ""], batch)
    valid, letters = split_valid(batch, 40)
    assert valid["event_id"].to_pylist() == ["e0"]
    assert [(letter.row, letter.field, letter.value) for letter in letters] == [
        (41, "page", b"caf\xe9"),
        (42, "customer_id", ""),
    ]
    assert letters[0].reason == "expected text in UTF-8"
    with DeadLetters(tmp_path / "x.jsonl") as written:
        written.extend(letters)
    record = json.loads(written.path.read_text().splitlines()[0])["record"]
    assert (record["page"], record["event_id"]) == ("caf\\xe9", "e1")


@pytest.mark.parametrize("name", ["event_id", "customer_id", "event_type", "send_country"])
def test_a_text_with_a_rule_that_is_not_utf8(name: str) -> None:
    valid, letters = split_valid(
        batch_with(name, texts([b"\xff", b"\xfe\xfd", b"\xc3"]), views()), 0
    )
    assert [(letter.row, letter.field) for letter in letters] == [(row, name) for row in range(3)]
    assert len(valid) == 0


@given(st.lists(documents, min_size=1, max_size=3), st.integers(1, 40))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_labels_and_payments_are_judged_in_any_company(
    rows: list[dict[str, Any]], company: int
) -> None:
    odd = RATES.with_reference_amounts(
        pa.RecordBatch.from_arrays(
            [pa.array([row.get(field.name) for row in rows], field.type) for field in EVENT_SCHEMA],
            schema=EVENT_SCHEMA,
        )
    )
    split_valid(pa.concat_batches([payments(company), odd, views(company)]), 0)


def test_a_slice_of_a_batch_is_judged_by_its_own_rows() -> None:
    batch = batch_with("page", texts([b"\xff", b"a", b"b"]), views())
    valid, letters = split_valid(batch.slice(1), 5)
    assert (len(valid), letters) == (2, [])


def test_other_columns_are_refused() -> None:
    with pytest.raises(InputError, match="the columns of EVENT_SCHEMA"):
        split_valid(views().drop_columns(["page"]), 0)
    with pytest.raises(InputError, match="the columns of EVENT_SCHEMA"):
        split_valid(pa.record_batch({"event_id": pa.array([1])}), 0)


def test_buffers_that_do_not_hold_what_they_say_are_refused() -> None:
    offsets = pa.py_buffer(np.array([0, 900, 1, 2], np.int32).tobytes())
    torn = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"abc")])
    with pytest.raises(InputError, match="a sound Arrow batch"):
        split_valid(batch_with("page", torn, views()), 0)
