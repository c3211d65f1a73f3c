from __future__ import annotations

from datetime import UTC, datetime, timedelta

import redis

from streaming.log.frames import Partition
from streaming.log.valkey_layout import offset_of, stream_name
from streaming.log.valkey_retention import trim

ONE: Partition = ("customer", 1)
TWO: Partition = ("corridor", 2)
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def fill(client: redis.Redis[bytes], partition: Partition) -> list[int]:
    """Ten entries, an hour apart, the last one now."""
    ids = []
    for number in range(10):
        at = NOW - timedelta(hours=9 - number)
        ids.append(f"{int(at.timestamp()) * 1000}-{number}")
        client.xadd(stream_name(*partition), {"arrow": b"frame"}, id=ids[-1])
    return [offset_of(name) for name in ids]


def kept(client: redis.Redis[bytes], partition: Partition) -> list[int]:
    return [offset_of(name.decode()) for name, _ in client.xrange(stream_name(*partition))]


def test_what_is_old_goes(client: redis.Redis[bytes]) -> None:
    one, two = fill(client, ONE), fill(client, TWO)
    gone = trim(client, timedelta(hours=3), {ONE: one[-1], TWO: two[-1]}, NOW)
    assert gone == 12
    assert kept(client, ONE) == one[6:]
    assert kept(client, TWO) == two[6:]


def test_what_a_checkpoint_needs_stays_whatever_its_age(client: redis.Redis[bytes]) -> None:
    one, two = fill(client, ONE), fill(client, TWO)
    assert trim(client, timedelta(hours=3), {ONE: one[2], TWO: None}, NOW) == 2
    assert kept(client, ONE) == one[2:]
    assert kept(client, TWO) == two


def test_partitions_of_others_stay(client: redis.Redis[bytes]) -> None:
    one, two = fill(client, ONE), fill(client, TWO)
    assert trim(client, timedelta(0), {ONE: one[-1]}, NOW) == 9
    assert kept(client, TWO) == two
    assert trim(client, timedelta(0), {("customer", 7): 5}, NOW) == 0
    assert trim(client, timedelta(0), {}, NOW) == 0
