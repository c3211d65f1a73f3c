from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest
import redis

from streaming.log.frames import Frame, shard_of
from streaming.log.valkey_streams import ValkeyLog, ValkeyLogReader
from tests.streaming.made_events import batch_of, page_view


@pytest.fixture
def client(valkey: str) -> Iterator[redis.Redis[bytes]]:
    host, port = valkey.split(":")
    with redis.Redis(host=host, port=int(port)) as connection:
        yield connection


def test_what_is_appended_is_read_in_order_by_shard(client: redis.Redis[bytes]) -> None:
    log, reader = ValkeyLog(client), ValkeyLogReader(client, stopped=lambda: False)
    assert reader.poll() == []
    sent = [batch_of([page_view(10 * n + i, f"c{i}") for i in range(10)]) for n in range(5)]
    assert [log.append(batch) for batch in sent] == [10] * 5
    entries = reader.poll()
    assert reader.poll() == []
    frames = [entry for entry in entries if isinstance(entry, Frame)]
    assert len(frames) == len(entries)
    for frame in frames:
        customers = set(frame.events.column("customer_id").to_pylist())
        assert {shard_of(customer) for customer in customers} == {frame.partition}
    for shard in {frame.partition for frame in frames}:
        offsets = [frame.offset for frame in frames if frame.partition == shard]
        assert offsets == sorted(set(offsets))
    received = pa.Table.from_batches([frame.events for frame in frames])
    expected = pa.Table.from_batches(sent)
    assert received.sort_by("event_time").equals(expected.sort_by("event_time"))


def test_a_stopped_reader_ends(client: redis.Redis[bytes]) -> None:
    with pytest.raises(StopIteration):
        ValkeyLogReader(client, stopped=lambda: True).poll()
