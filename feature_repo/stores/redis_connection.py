"""Clients of the online store: one server (TCP, TLS or a Unix socket), Sentinel or a Cluster."""

from __future__ import annotations

from typing import Any

import redis
from redis import asyncio as redis_asyncio
from redis.asyncio import sentinel as asyncio_sentinel
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry
from redis.sentinel import Sentinel

from feature_repo.contracts.redis_address import RedisAddress, parse_address

# For a connection, and for each answer; redis-py's own default waits for ever.
TIMEOUT_S = 5.0
_TIMEOUTS = {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S}


def connect(connection_string: str) -> redis.Redis[bytes]:
    """A client whose responses are bytes; it connects at its first command.

    It waits `TIMEOUT_S` for a connection and for each answer, unless the string says otherwise
    (`socket_timeout=30`, in seconds).

    Raises:
        SettingsError: see `parse_address`.
    """
    return open_client(
        parse_address(connection_string),
        # As redis-py's own, but not after a time-out: the wait would be four times as long, and
        # a command that was heard but not answered would be done twice (XADD).
        Retry(ExponentialWithJitterBackoff(), 3, supported_errors=(RedisConnectionError,)),
    )


def open_client(address: RedisAddress, retry: Retry | None = None) -> Any:
    """A `Redis` or `RedisCluster` whose responses are bytes; a Cluster's connects at once.

    Args:
        retry: of connecting and commands; none unless given.
    """
    options: dict[str, Any] = _TIMEOUTS | address.options
    retry = retry or Retry(NoBackoff(), 0)
    if address.kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in address.nodes]
        return RedisCluster(startup_nodes=nodes, **options)
    if address.kind == "sentinel":
        sentinels = Sentinel(
            address.nodes, sentinel_kwargs=_TIMEOUTS | address.sentinel_options, **options
        )
        return sentinels.master_for(address.service, retry=retry)
    if address.path is not None:
        return redis.Redis(unix_socket_path=address.path, retry=retry, **options)
    host, port = address.nodes[0]
    return redis.Redis(host=host, port=port, retry=retry, **options)


def open_async_client(address: RedisAddress) -> tuple[Any, list[Any]]:
    """The same for the event loop that runs, and all clients to close in the end.

    They connect at the first command, and never again by themselves.
    """
    options: dict[str, Any] = _TIMEOUTS | address.options
    retry = AsyncRetry(NoBackoff(), 0)
    asked: list[Any] = []
    if address.kind == "cluster":
        nodes = [AsyncClusterNode(host, port) for host, port in address.nodes]
        client = redis_asyncio.RedisCluster(startup_nodes=nodes, **options)
    elif address.kind == "sentinel":
        sentinels = asyncio_sentinel.Sentinel(
            address.nodes, sentinel_kwargs=_TIMEOUTS | address.sentinel_options, **options
        )
        client = sentinels.master_for(address.service, retry=retry)
        asked = sentinels.sentinels
    elif address.path is not None:
        client = redis_asyncio.Redis(unix_socket_path=address.path, retry=retry, **options)
    else:
        host, port = address.nodes[0]
        client = redis_asyncio.Redis(host=host, port=port, retry=retry, **options)
    return client, [client, *asked]
