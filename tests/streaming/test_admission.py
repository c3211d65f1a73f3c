"""Whatever stands in the log, good events get in and the others become dead letters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import redis

from feature_repo.contracts.events import EVENT_SCHEMA
from feature_repo.stores.redis_connection import connect
from streaming.admission import Admission
from streaming.log.frames import shard_of
from streaming.log.valkey_streams import ValkeyLog, ValkeyLogReader, stream_name
from streaming.mapping.dead_letters import DeadLetters
from tests.streaming.made_events import batch_of, page_view, payment


@pytest.fixture
def client(valkey: str) -> Iterator[redis.Redis[bytes]]:
    with connect(valkey) as connection:
        yield connection


def ipc(batch: pa.RecordBatch | None, schema: pa.Schema = EVENT_SCHEMA) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        if batch is not None:
            writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def with_value(field: str, value: object) -> pa.RecordBatch:
    """One page view with one field changed, as no honest producer would send it."""
    batch = batch_of([page_view(7)])
    place = EVENT_SCHEMA.get_field_index(field)
    column = pa.array([value], EVENT_SCHEMA.field(field).type)
    return pa.RecordBatch.from_arrays(
        [*batch.columns[:place], column, *batch.columns[place + 1 :]], schema=EVENT_SCHEMA
    )


BAD: dict[str, dict[bytes, bytes]] = {
    "unknown type": {b"arrow": ipc(with_value("event_type", "refund"))},
    "year 148000": {b"arrow": ipc(with_value("event_time", 2**62))},
    "no id": {b"arrow": ipc(with_value("event_id", None))},
    "no customer": {b"arrow": ipc(with_value("customer_id", None))},
    "no field": {b"json": b"{}"},
    "no arrow": {b"arrow": b"\x00garbage"},
    "cut short": {b"arrow": ipc(batch_of([page_view(0)]))[:300]},
    "other schema": {b"arrow": ipc(None, pa.schema([("event_id", pa.int64())]))},
}


@pytest.mark.parametrize("name", BAD)
def test_one_bad_entry_is_a_dead_letter_and_the_good_ones_get_in(
    client: redis.Redis[bytes], tmp_path: Path, name: str
) -> None:
    client.xadd(stream_name(shard_of("c1")), BAD[name])
    ValkeyLog(client).append(batch_of([page_view(n) for n in range(5)]))
    letters, admitted = read_all(client, tmp_path)
    assert admitted == 5
    assert len(letters) == 1
    assert letters[0]["reason"]


@pytest.mark.parametrize("payload", [ipc(None), ipc(batch_of([]))])
def test_a_frame_without_rows_is_no_end_of_the_log(
    client: redis.Redis[bytes], tmp_path: Path, payload: bytes
) -> None:
    client.xadd(stream_name(shard_of("c1")), {b"arrow": payload})
    ValkeyLog(client).append(batch_of([page_view(0)]))
    assert read_all(client, tmp_path) == ([], 1)


def test_the_log_adds_reference_amounts(client: redis.Redis[bytes], tmp_path: Path) -> None:
    bare = batch_of([payment(0)])
    for name in ("amount_ref_minor", "fee_ref_minor"):
        place = bare.schema.get_field_index(name)
        bare = bare.set_column(place, EVENT_SCHEMA.field(name), pa.nulls(1, pa.int64()))
    ValkeyLog(client).append(bare)
    entry = ValkeyLogReader(client, stopped=lambda: False).poll()[0]
    with DeadLetters(tmp_path / "letters.jsonl") as letters:
        frame = Admission(letters).admit(entry)
    assert frame is not None
    assert frame.events.column("amount_ref_minor").to_pylist() == [13_100]


def read_all(client: redis.Redis[bytes], tmp_path: Path) -> tuple[list[dict[str, Any]], int]:
    """The dead letters of everything in the log, and the number of events let in."""
    path = tmp_path / "letters.jsonl"
    admitted: list[int] = []
    with DeadLetters(path) as letters:
        admission = Admission(letters, admitted=admitted.append)
        for entry in ValkeyLogReader(client, stopped=lambda: False).poll():
            admission.admit(entry)
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines], sum(admitted)
