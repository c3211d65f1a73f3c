"""Connecting to the online store: TCP, TLS or a Unix socket, the master that Sentinels name."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace
from typing import Any

import hiredis
from redis.asyncio.connection import SSLConnection
from redis.asyncio.sentinel import Sentinel

from feature_repo.contracts.redis_address import RedisAddress
from feature_repo.stores.redis_connection import open_async_client
from serving.store_cluster import ClusterWire, close_client
from serving.store_wire import Ask, Bytes, StoreWire, encode_command, parse_answers


async def dial(address: RedisAddress, timeout_s: float) -> StoreWire | ClusterWire:
    """An open connection to the server that holds the data, logged in.

    Args:
        timeout_s: of each connection and answer of a Cluster; the caller bounds the whole.

    Raises:
        OSError: the server is away.
        hiredis.ReplyError, redis.RedisError: it refuses the user or the password.
    """
    loop = asyncio.get_running_loop()
    options = dict(address.options)
    if address.kind == "cluster":
        limits = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
        client, _ = open_async_client(replace(address, options=options | limits))
        try:
            await client.initialize()
        except BaseException:
            await close_client(client)
            raise
        return ClusterWire(client)
    if address.path is not None:
        made: Any = await loop.create_unix_connection(StoreWire, address.path)
    else:
        host, port = await _server(address)
        security = _tls(options) if options.get("ssl") else None
        named = host if security is not None and security.check_hostname else None
        made = await loop.create_connection(
            StoreWire,
            host,
            port,
            ssl=security,
            server_hostname=(named or host) if security is not None else None,
        )
    wire: StoreWire = made[1]
    try:
        await _log_in(wire, options)
    except BaseException:
        wire.abandon()
        raise
    return wire


async def _server(address: RedisAddress) -> tuple[str, int]:
    if address.kind != "sentinel":
        return address.nodes[0]
    sentinels = Sentinel(address.nodes, sentinel_kwargs=dict(address.sentinel_options))
    try:
        found: tuple[str, int] = await sentinels.discover_master(address.service)
    finally:
        for client in sentinels.sentinels:
            await client.aclose()
    return found


def _tls(options: dict[str, Any]) -> Any:
    """The TLS context that redis-py makes of the same options."""
    theirs = {name: value for name, value in options.items() if name.startswith("ssl_")}
    return SSLConnection(**theirs).ssl_context.get()


async def _log_in(wire: StoreWire, options: dict[str, Any]) -> None:
    commands = []
    if options.get("password") is not None:
        user = options.get("username")
        names = [] if user is None else [str(user).encode()]
        commands.append(encode_command(b"AUTH", *names, str(options["password"]).encode()))
    if options.get("db"):
        commands.append(encode_command(b"SELECT", b"%d" % int(options["db"])))
    # A first answer also shows that the server is there: a process that hangs still accepts.
    commands.append(encode_command(b"PING"))
    done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def take(buffer: Bytes, begin: int, end: int) -> None:
        if not done.done():
            done.set_result(buffer[begin:end].tobytes())

    def fail(error: Exception) -> None:
        if not done.done():
            done.set_exception(error)

    wire.send(deque([Ask(b"".join(commands), len(commands), take, fail)]))
    for answer in parse_answers(await done, len(commands)):
        if isinstance(answer, hiredis.ReplyError):
            raise answer
