"""Whatever stands in a row, it becomes an event, is skipped or is a dead letter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from feature_repo.contracts.events import DERIVED_FIELDS, EVENT_SCHEMA, Event
from feature_repo.contracts.money import ExchangeRates
from streaming.mapping.apply import MappedBatch, map_batch
from streaming.mapping.dead_letters import DeadLetters
from streaming.mapping.readers import read_batches
from streaming.mapping.spec import KINDS, TARGETS, Kind, Mapping, parse_mapping

RATES = ExchangeRates()


def identity() -> Mapping:
    """Every field from the column of its own name."""
    fields = {
        name: {"column": name, "unit": "minor"} if KINDS[name] is Kind.AMOUNT else name
        for name in TARGETS
    }
    return parse_mapping({"source": {"skip_where": {"page": "skip"}}, "fields": fields})


def mapped(path: Path, lines: list[str], mapping: Mapping) -> list[MappedBatch]:
    path.write_text("\n".join(lines), "utf-8", errors="surrogatepass")
    return [map_batch(raw, mapping, RATES, "x") for raw in read_batches(path, mapping)]


junk = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["label", "page_view", "GB", "GBP", "2024-05-01T10:00:00Z", "1e400", "skip"])
    | st.lists(st.integers(), max_size=2)
)
rows = st.fixed_dictionaries(dict.fromkeys(TARGETS, junk))


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(rows, min_size=1, max_size=6))
@example([dict.fromkeys(TARGETS, None)])
def test_no_value_stops_a_run(tmp_path: Path, documents: list[dict[str, Any]]) -> None:
    # Whole columns of junk of one type, and columns of all types.
    sentinel = dict.fromkeys(TARGETS, "x")
    lines = [json.dumps(document) for document in documents]
    for batch in (lines, [*lines, json.dumps(sentinel)]):
        results = mapped(tmp_path / "x.jsonl", batch, identity())
        assert sum(len(r.rows) + r.skipped + len(r.letters) for r in results) == len(batch)
        with DeadLetters(tmp_path / "dead.jsonl") as letters:
            for result in results:
                letters.extend(result.letters)
                places = [letter.row for letter in result.letters] + result.rows.tolist()
                assert len(places) == len(set(places))


GOOD: dict[str, Any] = {
    "event_id": "e1",
    "event_time": "2024-05-01T10:00:00.123456Z",
    "customer_id": "c1",
    "event_type": "label",
    "page": "home",
    "send_country": "GB",
    "receive_country": "NG",
    "amount_minor": 12_345,
    "fee_minor": 0,
    "currency": "GBP",
    "counterparty_id": "b1",
    "channel": "app",
    "device": "ios",
    "ip_country": "IE",
    "label_event_id": "e0",
    "label_value": 0.5,
    "label_arrival_time": "2024-05-09T00:00:00Z",
}


def test_a_mapped_row_is_the_event_that_a_producer_would_send(tmp_path: Path) -> None:
    assert set(GOOD) == set(TARGETS)
    line = json.dumps(GOOD)
    (result,) = mapped(tmp_path / "x.jsonl", [line], identity())
    (event,) = result.events.to_pylist()
    sent = msgspec.json.decode(line, type=Event).validated()
    for name in set(EVENT_SCHEMA.names) - DERIVED_FIELDS:
        assert event[name] == getattr(sent, name)
    assert (event["amount_ref_minor"], event["fee_ref_minor"]) == (15_777, 0)  # 1.278 USD a GBP


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"label_event_id": None}, "label_event_id"),
        ({"label_value": None}, "label_event_id"),
        ({"label_value": "NaN"}, "label_value"),
        ({"label_arrival_time": "soon"}, "label_arrival_time"),
        ({"label_arrival_time": "1970-01-01"}, "label_arrival_time"),
        ({"ip_country": "ie"}, "ip_country"),
        ({"receive_country": "NGA"}, "receive_country"),
        ({"fee_minor": 0.5}, "fee_minor"),
        ({"fee_minor": -1}, "fee_minor"),
        ({"amount_minor": None, "currency": None}, "currency"),
    ],
)
def test_bad_values_of_the_optional_fields(
    tmp_path: Path, change: dict[str, Any], field: str
) -> None:
    lines = [json.dumps(GOOD | change), json.dumps(GOOD)]
    (result,) = mapped(tmp_path / "x.jsonl", lines, identity())
    assert [letter.field for letter in result.letters] == [field]
    assert result.rows.tolist() == [2]
