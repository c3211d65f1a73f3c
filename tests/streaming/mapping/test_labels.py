"""Rows that carry their own label give a second event, in the log when the label became known."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from feature_repo.contracts.errors import MappingError
from streaming.mapping import event_file
from streaming.mapping.event_file import DUPLICATE
from streaming.mapping.spec import Mapping, parse_mapping
from tests.streaming.mapping.conftest import Outcome

Run = Callable[..., Outcome]
MAPPING = """
fields:
  event_id: id
  event_time: at
  customer_id: card
  event_type: {constant: payment_submitted}
  counterparty_id: terminal
  send_country: country
  currency: {constant: USD}
  amount_minor: {column: amount, unit: major}
label: {value: fraud, after: 2d}
"""
HEADER = "id,at,card,terminal,country,amount,fraud\n"
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def ids(outcome: Outcome) -> list[str]:
    return [event["event_id"] for event in outcome.events]


def test_a_row_is_an_event_and_its_label(run: Run) -> None:
    outcome = run(HEADER + "7,2024-05-01T12:00:00Z,c,t,GB,19.99,1\n", MAPPING)
    event, label = outcome.events
    assert event["label_value"] is None
    assert {name: value for name, value in label.items() if value is not None} == {
        "event_id": "7:label",
        "event_time": NOON,
        "customer_id": "c",
        "event_type": "label",
        "send_country": "GB",
        "counterparty_id": "t",
        "label_event_id": "7",
        "label_value": 1.0,
        "label_arrival_time": NOON + timedelta(days=2),
    }
    assert (outcome.report.events, outcome.report.labels, outcome.report.rows_read) == (2, 1, 1)
    assert outcome.report.last_event_time == NOON


def test_the_log_is_in_the_order_in_which_things_became_known(run: Run) -> None:
    rows = [
        "1,2024-05-01T12:00:00Z,c,t,GB,1,0",
        "2,2024-05-03T12:00:00Z,c,t,GB,1,0",  # at the instant at which 1's label is known
        "3,2024-05-03T11:59:59Z,c,t,GB,1,1",
        "4,2024-05-03T12:00:00Z,c,t,GB,1,",  # nobody knows
    ]
    outcome = run(HEADER + "\n".join(rows) + "\n", MAPPING)
    assert ids(outcome) == ["1", "3", "1:label", "2", "4", "3:label", "2:label"]
    assert outcome.report.labels == 3
    assert outcome.report.first_event_time == NOON


def test_an_event_whose_label_is_known_at_once_stands_before_it(run: Run) -> None:
    rows = [f"{number},2024-05-01T12:00:00Z,c,t,GB,1,0" for number in range(3)]
    outcome = run(HEADER + "\n".join(rows) + "\n", MAPPING.replace("2d", "0s"))
    assert ids(outcome) == ["0", "0:label", "1", "1:label", "2", "2:label"]


def test_the_order_holds_across_ranges(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_file, "RANGE_BYTES", 4_096)
    rows = [
        f"{n},{NOON + timedelta(hours=n * 37 % 100):%Y-%m-%dT%H:%M:%SZ},c,t,GB,1,{n % 2}"
        for n in range(1_000)
    ]
    outcome = run(HEADER + "\n".join(rows) + "\n", MAPPING)
    known = [
        (event["label_arrival_time"] or event["event_time"], int(event["event_id"].split(":")[0]))
        for event in outcome.events
    ]
    assert len(known) == 2_000
    assert known == sorted(known)


def test_a_repeated_row_is_one_letter_and_no_second_label(run: Run) -> None:
    row = "7,2024-05-01T12:00:00Z,c,t,GB,1,{}\n"
    outcome = run(HEADER + row.format(0) + row.format(1), MAPPING)
    assert ids(outcome) == ["7", "7:label"]
    assert [letter["reason"] for letter in outcome.letters] == [DUPLICATE]


@pytest.mark.parametrize(
    ("row", "value"),
    [("7,2024-05-01,c,t,GB,1,maybe\n", "maybe"), ("7,2099-12-30T12:00:00Z,c,t,GB,1,0\n", "0")],
)
def test_a_label_that_is_none_is_a_dead_letter(run: Run, row: str, value: str) -> None:
    outcome = run(HEADER + row, MAPPING)
    assert not outcome.events
    (letter,) = outcome.letters
    assert (letter["field"], letter["value"]) == ("label_value", value)


def test_truth_values_are_numbers(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "in.parquet"
    columns = {"id": [1, 2], "at": [NOON, NOON], "card": ["c", "c"], "fraud": [True, False]}
    pl.DataFrame(columns).write_parquet(source)
    fields = "\n".join(MAPPING.splitlines()[:6])
    outcome = run(source, fields + "\nlabel: {value: fraud, after: 1h}\n")
    assert [event["label_value"] for event in outcome.events] == [None, None, 1.0, 0.0]


FIELDS = dict.fromkeys(["event_id", "event_time", "customer_id"], "x") | {
    "event_type": {"constant": "payment_submitted"}
}
WRONG = {
    "no column": ({"after": "6d"}, "label.value is None"),
    "no duration": ({"value": "fraud"}, "label.after is None"),
    "no unit": ({"value": "fraud", "after": "6"}, "label.after is '6'"),
    "a century": ({"value": "fraud", "after": "40000d"}, "label.after is '40000d'"),
    "a wrong name": ({"valu": "fraud", "after": "6d"}, "did you mean value"),
    "a text": ("fraud", "label is 'fraud'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_entry_is_named(case: str) -> None:
    entry, said = WRONG[case]
    with pytest.raises(MappingError, match=said):
        parse_mapping({"fields": FIELDS, "label": entry})


def test_a_label_has_one_origin() -> None:
    fields = FIELDS | {"label_value": "y"}
    with pytest.raises(MappingError, match=r"fields\.label_value: expected no entry beside label:"):
        parse_mapping({"fields": fields, "label": {"value": "fraud", "after": "6d"}})


def test_a_column_that_the_source_lacks_is_named() -> None:
    mapping = parse_mapping({"fields": FIELDS, "label": {"value": "fraud", "after": "6d"}})
    assert isinstance(mapping, Mapping)
    with pytest.raises(MappingError, match=r"label\.value is 'fraud'"):
        mapping.check_columns(["x"])
