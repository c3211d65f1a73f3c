"""The fenced write on a real Valkey: what lands, what is refused, and that nothing goes back."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
import redis
from redis.exceptions import ResponseError

from feature_repo.stores.fenced_writes import (
    FENCED_WRITE,
    FENCED_WRITE_SHA,
    KEYS_PER_CALL,
    keys_per_call,
    read_fences,
)
from feature_repo.stores.redis_layout import (
    Fence,
    encode_fence,
    encode_timestamp,
    fence_field,
    timestamp_field,
)

VIEW = "customer_state"


def write(client: Any, rows: dict[str, tuple[Fence, str]], view: str = VIEW) -> int:
    """How many of the rows the store took."""
    arguments: list[bytes | str] = [fence_field(view), f"{view}:value", f"_ts:{view}"]
    for fence, value in rows.values():
        arguments += [encode_fence(fence), value, f"time of {value}"]
    return int(client.eval(FENCED_WRITE, len(rows), *rows, *arguments))


def value_of(client: Any, key: str, view: str = VIEW) -> tuple[str, str]:
    value, time = client.hmget(key, f"{view}:value", f"_ts:{view}")
    return value.decode(), time.decode()


def test_the_servers_name_of_the_script_is_ours(client: Any) -> None:
    assert client.script_load(FENCED_WRITE) == FENCED_WRITE_SHA


def test_a_replay_changes_nothing(client: Any) -> None:
    assert write(client, {"k": (Fence(1, 10), "a")}) == 1
    assert write(client, {"k": (Fence(1, 10), "again")}) == 0
    assert write(client, {"k": (Fence(1, 9), "older")}) == 0
    assert value_of(client, "k") == ("a", "time of a")
    assert read_fences(client, [b"k", b"unknown"], VIEW) == [Fence(1, 10), None]


@pytest.mark.parametrize(
    ("stored", "later"),
    [
        (Fence(1, 10), Fence(1, 11)),
        (Fence(1, 10), Fence(2, 0)),  # a new generation begins its log anew
        (Fence(1, 2**64 - 1), Fence(2, 0)),
        # A double cannot tell these apart, and a locale may not sort these bytes.
        (Fence(1, 2**63 - 2), Fence(1, 2**63 - 1)),
        (Fence(1, 1_700_000_000_000_000_000), Fence(1, 1_700_000_000_000_000_001)),
        (Fence(1, 0x7F), Fence(1, 0x80)),
        (Fence(0xFF, 0), Fence(0x100, 0)),
        (Fence(2**64 - 2, 5), Fence(2**64 - 1, 0)),
        (Fence(1, 0x0000FFFFFFFFFFFF), Fence(1, 0x0001000000000000)),
    ],
)
def test_only_a_later_fence_lands(client: Any, stored: Fence, later: Fence) -> None:
    write(client, {"k": (later, "later")})
    assert write(client, {"k": (stored, "stored")}) == 0
    client.delete("k")
    write(client, {"k": (stored, "stored")})
    assert write(client, {"k": (later, "later")}) == 1
    assert read_fences(client, [b"k"], VIEW) == [later]


def test_each_key_of_a_call_is_decided_by_itself(client: Any) -> None:
    write(client, {"a": (Fence(1, 5), "a5"), "b": (Fence(1, 7), "b7")})
    rows = {"a": (Fence(1, 6), "a6"), "b": (Fence(1, 6), "b6"), "c": (Fence(1, 6), "c6")}
    assert write(client, rows) == 2
    assert [value_of(client, key)[0] for key in "abc"] == ["a6", "b7", "c6"]


def test_views_of_one_entity_do_not_fence_each_other(client: Any) -> None:
    write(client, {"k": (Fence(9, 9), "mine")})
    assert write(client, {"k": (Fence(1, 1), "theirs")}, "customer_batch") == 1
    assert value_of(client, "k") == ("mine", "time of mine")
    assert read_fences(client, [b"k"], VIEW) == [Fence(9, 9)]


def test_a_value_that_feast_wrote_is_taken_over(client: Any) -> None:
    client.hset("k", mapping={f"{VIEW}:value": "feast's", f"_ts:{VIEW}": "feast's"})
    assert write(client, {"k": (Fence(1, 0), "ours")}) == 1
    assert value_of(client, "k") == ("ours", "time of ours")


def feast_writes(client: Any, second: int, value: str) -> int:
    """The same function, as Feast's writes call it."""
    head = [timestamp_field(VIEW), f"_created:{VIEW}", 1, 1, f"{VIEW}:value"]
    stamp = encode_timestamp(second * 1_000_000)
    return int(client.evalsha(FENCED_WRITE_SHA, 1, "k", *head, stamp, b"", value))


def test_feasts_writes_go_through_the_same_function_and_leave_the_fence(client: Any) -> None:
    client.script_load(FENCED_WRITE)
    fence, field = Fence(1, 10), f"_ts:{VIEW}"
    client.evalsha(FENCED_WRITE_SHA, 1, "k", fence_field(VIEW), f"{VIEW}:value", field,
                   encode_fence(fence), "streamed", encode_timestamp(5_000_000))  # fmt: skip
    assert feast_writes(client, 4, "older") == 0
    assert feast_writes(client, 5, "corrected") == 1
    assert feast_writes(client, 6, "newer") == 1
    assert value_of(client, "k")[0] == "newer"
    # The log goes on where it was: what it has written already is refused, what follows lands.
    assert read_fences(client, [b"k"], VIEW) == [fence]
    assert write(client, {"k": (Fence(1, 10), "replayed")}) == 0
    assert write(client, {"k": (Fence(1, 11), "next")}) == 1


def test_a_damaged_fence_is_an_error_and_not_a_value(client: Any) -> None:
    client.hset("k", fence_field(VIEW), "short")
    with pytest.raises(ResponseError, match="data string too short"):
        write(client, {"k": (Fence(1, 1), "value")})
    assert client.hget("k", f"{VIEW}:value") is None


def test_writers_at_once_never_take_a_value_back(client: Any, valkey: str) -> None:
    host, port = valkey.split(":")
    keys = [f"k{n}" for n in range(5)]
    offsets = list(range(1, 201))
    done = threading.Event()
    regressions: list[tuple[int, int]] = []

    def replay(seed: int) -> None:
        order = offsets.copy()
        random.Random(seed).shuffle(order)
        with redis.Redis(host=host, port=int(port)) as mine:
            for offset in order:
                write(mine, {key: (Fence(1, offset), str(offset)) for key in keys})

    def watch() -> None:
        seen = dict.fromkeys(keys, 0)
        with redis.Redis(host=host, port=int(port)) as mine:
            while not done.is_set():
                for key in keys:
                    now = int(mine.hget(key, f"{VIEW}:value") or 0)
                    if now < seen[key]:
                        regressions.append((seen[key], now))
                    seen[key] = now

    watcher = threading.Thread(target=watch)
    watcher.start()
    writers = [threading.Thread(target=replay, args=(seed,)) for seed in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    done.set()
    watcher.join()
    assert regressions == []
    assert read_fences(client, [key.encode() for key in keys], VIEW) == [Fence(1, 200)] * 5
    assert {value_of(client, key)[0] for key in keys} == {"200"}


def test_a_single_server_takes_many_keys_a_call(client: Any) -> None:
    assert keys_per_call(client) == KEYS_PER_CALL
