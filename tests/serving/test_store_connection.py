"""How serving connects to the store."""

from __future__ import annotations

from dataclasses import replace

from redis.asyncio import SSLConnection

from serving.settings import ServingSettings
from serving.store_connection import StoreConnection


def test_ssl_and_timeouts_reach_the_connections(settings: ServingSettings) -> None:
    shared = replace(settings.shared, redis="h:1,db=2,ssl=true,socket_timeout=0.1")
    pool = StoreConnection(replace(settings, shared=shared))._redis.connection_pool
    assert pool.connection_class is SSLConnection
    assert pool.connection_kwargs["db"] == 2
    assert pool.connection_kwargs["socket_timeout"] == 0.1
    assert pool.connection_kwargs["socket_connect_timeout"] == 0.5
