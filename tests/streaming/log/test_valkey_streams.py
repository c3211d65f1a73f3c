from __future__ import annotations

import re
from datetime import UTC, datetime

import pyarrow as pa
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from feature_repo.contracts.errors import SettingsError, StoreUnavailableError
from streaming.log import valkey_streams
from streaming.log.errors import DeliveryError, LogGapError
from streaming.log.frames import Partition, Unreadable, shard_of
from streaming.log.valkey_layout import offset_of, recorded_shards, stream_name
from streaming.log.valkey_streams import ValkeyLog, ValkeyLogReader
from tests.conftest import free_port
from tests.streaming.log.log_reading import (
    FEATURE_SET,
    all_partitions,
    frames_of,
    ids_by_partition,
    last_offsets,
    rows_of,
)
from tests.streaming.made_events import batch_of, page_view, payment

C1: Partition = ("customer", shard_of("c1"))


def reader_of(
    client: redis.Redis[bytes], partitions: dict[Partition, int | None] | None = None
) -> ValkeyLogReader:
    return ValkeyLogReader(client, partitions or all_partitions(), stopped=lambda: False)


def single_frames(client: redis.Redis[bytes], count: int) -> ValkeyLog:
    """A log of c1's events, one a frame."""
    log = ValkeyLog(client, FEATURE_SET)
    for number in range(count):
        log.append(batch_of([page_view(number, "c1")]))
    return log


def offsets_of_c1(client: redis.Redis[bytes]) -> list[int]:
    return [offset_of(name.decode()) for name, _ in client.xrange(stream_name(*C1))]


def test_what_is_appended_is_read_in_order_by_entity_and_shard(client: redis.Redis[bytes]) -> None:
    log, reader = ValkeyLog(client, FEATURE_SET), reader_of(client)
    assert reader.poll() == []
    sent = [
        batch_of([page_view(20 * n + i, f"c{i}") for i in range(10)])
        if n % 2
        else batch_of([payment(20 * n + i, f"c{i}") for i in range(10)])
        for n in range(5)
    ]
    assert [log.append(batch) for batch in sent] == [10] * 5
    entries = reader.poll()
    assert reader.poll() == []
    last_offsets(entries)
    for frame in frames_of(entries):
        customers = frame.events.column("customer_id").to_pylist()
        assert {shard_of(customer) for customer in customers} == {frame.partition}
    assert rows_of(entries).equals(pa.Table.from_batches(sent).sort_by("event_id"))
    corridor = frames_of(entries, "corridor")
    assert {frame.partition for frame in corridor} == {shard_of("GB-NG")}
    assert [len(frame.events) for frame in corridor] == [10, 10, 10]
    assert reader.gone == {}


def test_a_large_batch_is_written_in_steps(
    client: redis.Redis[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(valkey_streams, "APPEND_ROWS", 7)
    sent = batch_of([page_view(n, f"c{n}") for n in range(40)])
    assert ValkeyLog(client, FEATURE_SET).append(sent) == 40
    reader = reader_of(client)
    entries = reader.poll()
    assert rows_of(entries).equals(pa.Table.from_batches([sent]).sort_by("event_id"))


def test_each_entry_is_a_frame_under_its_own_offset(client: redis.Redis[bytes]) -> None:
    single_frames(client, 12)
    frames = reader_of(client, {C1: None}).poll()
    assert ids_by_partition(frames)[C1] == [f"e{number}" for number in range(12)]
    assert [frame.offset for frame in frames] == offsets_of_c1(client)


@pytest.mark.parametrize("read_first", [1, 4, 6])
def test_reading_resumes_after_an_offset(client: redis.Redis[bytes], read_first: int) -> None:
    single_frames(client, 6)
    offset = offsets_of_c1(client)[read_first - 1]
    reader = reader_of(client, {C1: offset})
    left = [f"e{number}" for number in range(read_first, 6)]
    assert ids_by_partition(reader.poll()) == ({C1: left} if left else {})
    ValkeyLog(client, FEATURE_SET).append(batch_of([page_view(6, "c1")]))
    assert ids_by_partition(reader.poll()) == {C1: ["e6"]}


@pytest.mark.parametrize(("kept", "missing"), [(3, 1), (1, 3), (0, 4)])
def test_a_gap_after_the_offset_is_a_stop_with_its_size(
    client: redis.Redis[bytes], kept: int, missing: int
) -> None:
    single_frames(client, 6)
    offset = offsets_of_c1(client)[1]
    client.xtrim(stream_name(*C1), maxlen=kept, approximate=False)
    with pytest.raises(LogGapError, match=f"{missing} entr") as caught:
        reader_of(client, {C1: offset}).poll()
    assert (caught.value.entity, caught.value.partition, caught.value.missing) == (*C1, missing)
    assert caught.value.since is not None
    assert caught.value.until is not None
    assert abs((datetime.now(UTC) - caught.value.until).total_seconds()) < 60


def test_nothing_missing_after_the_offset_is_no_gap(client: redis.Redis[bytes]) -> None:
    single_frames(client, 6)
    offset = offsets_of_c1(client)[1]
    client.xtrim(stream_name(*C1), maxlen=4, approximate=False)  # the offset's own entry as well
    assert ids_by_partition(reader_of(client, {C1: offset}).poll())[C1] == ["e2", "e3", "e4", "e5"]


def test_a_log_trimmed_past_a_slow_reader_is_a_gap_too(client: redis.Redis[bytes]) -> None:
    log = single_frames(client, 2)
    reader = reader_of(client, {C1: None})
    assert len(reader.poll()) == 2
    for number in range(2, 7):
        log.append(batch_of([page_view(number, "c1")]))
    client.xtrim(stream_name(*C1), maxlen=2, approximate=False)
    with pytest.raises(LogGapError) as caught:
        reader.poll()
    assert caught.value.missing == 3


def test_an_emptied_log_is_a_gap_of_unknown_size(client: redis.Redis[bytes]) -> None:
    single_frames(client, 3)
    offset = offsets_of_c1(client)[2]
    client.flushall()
    with pytest.raises(LogGapError, match="emptied") as caught:
        reader_of(client, {C1: offset}).poll()
    assert caught.value.missing is None
    single_frames(client, 3)  # made anew: what was between is not known either
    with pytest.raises(LogGapError, match="emptied"):
        reader_of(client, {C1: offset}).poll()


def test_from_the_beginning_the_missing_entries_are_reported(client: redis.Redis[bytes]) -> None:
    single_frames(client, 6)
    client.xtrim(stream_name(*C1), maxlen=2, approximate=False)
    reader = reader_of(client)
    assert ids_by_partition(reader.poll())[C1] == ["e4", "e5"]
    assert reader.gone == {C1: 4}


def test_the_shard_count_is_recorded_and_another_is_refused(client: redis.Redis[bytes]) -> None:
    assert recorded_shards(client) is None
    ValkeyLog(client, FEATURE_SET, shards=3).append(batch_of([page_view(0)]))
    assert recorded_shards(client) == 3
    with pytest.raises(SettingsError, match=r"is 4: expected 3, with which the log was created"):
        ValkeyLog(client, FEATURE_SET).append(batch_of([page_view(1)]))
    with pytest.raises(SettingsError, match="expected 3"):
        reader_of(client).poll()
    reader = reader_of(client, all_partitions(shards=3))
    assert [len(frame.events) for frame in frames_of(reader.poll())] == [1]


def test_somebody_elses_entries_harm_nothing(client: redis.Redis[bytes]) -> None:
    log = single_frames(client, 2)
    client.xadd(stream_name(*C1), {"arrow": b"nonsense"})
    client.xadd(stream_name(*C1), {"other": b"field"})
    ahead = int(datetime.now(UTC).timestamp() * 1000) + 3_600_000
    client.xadd(stream_name(*C1), {"arrow": b"from a clock ahead"}, id=f"{ahead}-5")
    log.append(batch_of([page_view(2, "c1")]))
    log.append(batch_of([page_view(3, "c1")]))
    reader = reader_of(client, {C1: None})
    entries = reader.poll()
    last_offsets(entries)
    bad = [entry for entry in entries if isinstance(entry, Unreadable)]
    assert [entry.content for entry in bad] == [
        "b'nonsense'",
        "{b'other': b'field'}",
        "b'from a clock ahead'",
    ]
    assert all("Arrow stream" in entry.reason for entry in bad)
    assert rows_of(entries).column("event_id").to_pylist() == ["e0", "e1", "e2", "e3"]
    for offset in offsets_of_c1(client):
        reader_of(client, {C1: offset}).poll()  # none of them is a gap


def test_what_the_server_does_not_take_is_named(client: redis.Redis[bytes]) -> None:
    client.set(stream_name(*C1), "no stream")
    with pytest.raises(DeliveryError, match=r"2 were not.*'e0', 'e1'") as caught:
        ValkeyLog(client, FEATURE_SET).append(
            batch_of([page_view(number, "c1") for number in range(2)])
        )
    assert caught.value.event_ids == ("e0", "e1")
    assert caught.value.confirmed == 0


def test_a_server_that_is_away_is_asked_again_and_then_named() -> None:
    nobody: redis.Redis[bytes] = redis.Redis(port=free_port(), retry=Retry(NoBackoff(), 0))
    with pytest.raises(DeliveryError, match=re.escape("'e0'")):
        ValkeyLog(nobody, FEATURE_SET, retry_for_s=0.3).append(batch_of([page_view(0)]))
    with pytest.raises(StoreUnavailableError, match="event log"):
        ValkeyLogReader(nobody, {C1: None}, lambda: False, retry_for_s=0).poll()
    assert ValkeyLogReader(nobody, {C1: None}, lambda: False).poll() == []


def test_a_lost_connection_is_no_lost_event(
    client: redis.Redis[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = client.eval, []

    def cut_after_it_was_heard(*arguments: object) -> object:
        calls.append(arguments)
        answer = real(*arguments)
        if len(calls) == 1:
            raise redis.ConnectionError("cut")
        return answer

    monkeypatch.setattr(client, "eval", cut_after_it_was_heard)
    assert ValkeyLog(client, FEATURE_SET).append(batch_of([page_view(0, "c1")])) == 1
    assert ids_by_partition(reader_of(client).poll()) == {C1: ["e0", "e0"]}  # at least once


def test_a_stopped_reader_ends(client: redis.Redis[bytes]) -> None:
    with pytest.raises(StopIteration):
        ValkeyLogReader(client, all_partitions(), stopped=lambda: True).poll()
