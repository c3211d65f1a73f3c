"""The plain client: it talks, and it does not wait for ever."""

from __future__ import annotations

import socket

import pytest
from redis.exceptions import TimeoutError as RedisTimeoutError

from feature_repo.stores.redis_connection import connect


def test_the_client_talks_to_the_store(valkey: str) -> None:
    with connect(valkey) as client:
        assert client.ping()


def test_the_wait_is_5_s_unless_the_string_says_otherwise() -> None:
    options = connect("h:1,socket_timeout=30").connection_pool.connection_kwargs
    assert (options["socket_connect_timeout"], options["socket_timeout"]) == (5.0, 30)
    assert connect("h:1").connection_pool.connection_kwargs["socket_timeout"] == 5.0


def test_a_store_that_hangs_is_given_up_after_one_wait() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        client = connect(f"127.0.0.1:{port},socket_timeout=0.2")
        with client, pytest.raises(RedisTimeoutError):
            client.ping()
        silent.setblocking(False)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):  # no second try
            silent.accept()
