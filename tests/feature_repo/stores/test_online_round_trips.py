"""Whatever is asked for, one round trip brings it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from feast import FeatureStore

from feature_repo.contracts.errors import StoreUnavailableError
from feature_repo.stores.fenced_writes import KEYS_PER_CALL
from tests.feature_repo.stores.both_stores import NOW, OURS, STOCK, encoded, entity_key, open_with
from tests.feature_repo.stores.both_stores import project as views
from tests.feature_repo.stores.counting_server import CountingServer

ROWS = 50
CUSTOMERS = [f"c{n}" for n in range(ROWS)]
# Of two views of the customer (3 features and 2 event times), and of one of the driver.
REFS = ["every:an_int64", "every:a_string", "brief:brief_int", "trips:trip_count"]
ENTITIES = [{"customer_id": key, "driver_id": n} for n, key in enumerate(CUSTOMERS)]
Held = Callable[[bytes, int, bytes], tuple[CountingServer, FeatureStore]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trips")
    open_with(STOCK, path, "127.0.0.1:1").apply(views(path))
    return path


@pytest.fixture
def held(folder: Path) -> Iterator[Held]:
    """A server that holds back its answers, and the store on it."""
    made: list[CountingServer] = []

    def make(command: bytes, count: int, answer: bytes) -> tuple[CountingServer, FeatureStore]:
        server = CountingServer(command, count, answer)
        made.append(server)
        return server, open_with(OURS, folder, f"redis://127.0.0.1:{server.port}?socket_timeout=2")

    yield make
    for server in made:
        server.close()


def nulls(fields: int) -> bytes:
    return b"*%d\r\n" % fields + b"$-1\r\n" * fields


def test_reads_of_several_views_of_one_entity(held: Held) -> None:
    server, store = held(b"HMGET", ROWS, nulls(5))
    for full_names in (False, True):  # planned anew, then
        found = store.get_online_features(REFS[:3], ENTITIES, full_feature_names=full_names)
        assert len(found.proto.results[1].values) == ROWS
    # A hash a customer, whatever the number of views.
    assert len(server.seen) == 2 * ROWS
    assert {len(command) for command in server.seen} == {2 + 5}


@pytest.mark.parametrize("versions", [False, True], ids=["short way", "Feast's own"])
def test_reads_of_several_entities(held: Held, versions: bool) -> None:
    refs = ["brief:brief_int", "trips:trip_count"]
    server, store = held(b"HMGET", 2 * ROWS, nulls(2))
    store.get_online_features(refs, ENTITIES, include_feature_view_version_metadata=versions)

    async def read() -> None:
        await store.get_online_features_async(
            refs, ENTITIES, include_feature_view_version_metadata=versions
        )
        await store._get_provider().online_store.close()

    asyncio.run(read())
    assert len(server.seen) == 4 * ROWS


def test_a_repeated_row_is_asked_for_once(held: Held) -> None:
    server, store = held(b"HMGET", 1, nulls(2))
    store.get_online_features(["brief:brief_int"], [{"customer_id": "c1"}] * ROWS)
    assert len(server.seen) == 1


def test_writes(held: Held) -> None:
    rows = 3 * KEYS_PER_CALL + 1
    server, store = held(b"EVALSHA", 4, b":1\r\n")
    provider, view = store._get_provider(), store.get_feature_view("brief")
    data = [
        (entity_key(customer_id=f"c{n}"), encoded({"brief_int": n}), NOW, None) for n in range(rows)
    ]
    provider.online_write_batch(store.config, view, data, None)

    async def write() -> None:
        await provider.online_write_batch_async(store.config, view, data, None)
        await provider.online_store.close()

    asyncio.run(write())
    assert [int(call[2]) for call in server.seen] == [KEYS_PER_CALL] * 3 + [1] + (
        [KEYS_PER_CALL] * 3 + [1]
    )


def test_the_server_does_hold_back(held: Held) -> None:
    """Were a command missing, the tests above would fail."""
    _, store = held(b"HMGET", ROWS + 1, nulls(2))
    with pytest.raises(StoreUnavailableError, match="TimeoutError"):
        store.get_online_features(["brief:brief_int"], ENTITIES[:ROWS])
