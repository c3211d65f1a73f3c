from __future__ import annotations

import pyarrow as pa

from feature_repo.contracts.events import EVENT_SCHEMA
from feature_repo.contracts.money import ExchangeRates
from feature_repo.engine.program import compile_program
from streaming.log.entity_frames import EntityFrames, with_missing_amounts
from streaming.log.frames import shard_of
from tests.streaming.log.log_reading import FEATURE_SET
from tests.streaming.made_events import batch_of, page_view, payment


def test_the_first_entity_gets_whole_events_the_others_what_they_need() -> None:
    events = [page_view(n, f"c{n}") for n in range(20)]
    events += [payment(n, f"c{n}") for n in range(20, 30)]
    split = EntityFrames(FEATURE_SET).split(batch_of(events))
    whole = [rows for (entity, _), rows in split if entity == "customer"]
    assert all(rows.schema.equals(EVENT_SCHEMA) for rows in whole)
    assert sum(map(len, whole)) == 30
    for (entity, shard), rows in split:
        if entity == "customer":
            keys = rows.column("customer_id").to_pylist()
            assert {shard_of(key) for key in keys} == {shard}
    (corridor,) = [(shard, rows) for (entity, shard), rows in split if entity == "corridor"]
    assert corridor[0] == shard_of("GB-NG")
    assert corridor[1].column("event_id").to_pylist() == [f"e{n}" for n in range(20, 30)]
    program = compile_program(FEATURE_SET, FEATURE_SET.entity("corridor"))
    assert corridor[1].schema.names == program.frame_schema.names
    assert not [rows for (entity, _), rows in split if entity == "counterparty"]  # none is named


def test_an_event_without_its_first_key_still_goes_somewhere() -> None:
    bare = batch_of([page_view(0)])
    at = EVENT_SCHEMA.get_field_index("customer_id")
    bare = bare.set_column(at, "customer_id", pa.nulls(1, pa.string()))
    assert [partition for partition, _ in EntityFrames(FEATURE_SET).split(bare)] == [
        ("customer", shard_of(""))
    ]


def test_amounts_that_an_ingestion_has_made_stay_and_missing_ones_are_added() -> None:
    events = batch_of([payment(0), payment(1)])
    at = EVENT_SCHEMA.get_field_index("amount_ref_minor")
    made = events.set_column(at, "amount_ref_minor", pa.array([77, None], pa.int64()))
    filled = with_missing_amounts(made, ExchangeRates())
    assert filled.column("amount_ref_minor").to_pylist() == [
        77,
        events.column("amount_ref_minor")[1].as_py(),
    ]
    assert filled.schema.equals(EVENT_SCHEMA)
