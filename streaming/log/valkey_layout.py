"""How the log lies in Valkey: names of streams, ids of entries, and what is gone from a stream.

An entry's id is `milliseconds-number`: the server's clock when it was written, and the entry's
number within its stream (modulo `NUMBERS`). Two ids thus tell how many entries lie between them,
also when those are gone. An offset is both in one integer.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import redis
from redis.exceptions import ResponseError

from feature_repo.contracts.errors import SettingsError
from streaming.log.errors import LogGapError
from streaming.log.frames import Partition

# A hash: the shard count (`shards`), and by stream the number of entries ever written to it.
RECORD = "daima:events"
FIELD = b"arrow"
_NUMBER_BITS = 21  # milliseconds take 42 bits until the year 2109: 63 together
NUMBERS = 1 << _NUMBER_BITS
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def stream_name(entity: str, shard: int) -> str:
    """The stream that holds a shard's events of an entity kind."""
    return f"{RECORD}:{entity}:{shard}"


def partition_of(stream: bytes) -> Partition:
    """The entity and shard of a stream.

    >>> partition_of(b"daima:events:customer:3")
    ('customer', 3)
    """
    entity, _, shard = stream.decode().removeprefix(f"{RECORD}:").rpartition(":")
    return entity, int(shard)


def offset_of(entry_id: str) -> int:
    """An entry's id as one integer that rises as ids do.

    >>> offset_of("1700000000000-3") - offset_of("1699999999999-2")
    2097153
    >>> entry_id(offset_of("1700000000000-3"))
    '1700000000000-3'
    """
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds) << _NUMBER_BITS | min(int(number), NUMBERS - 1)


def entry_id(offset: int) -> str:
    """The id of the entry at an offset."""
    return f"{offset >> _NUMBER_BITS}-{offset % NUMBERS}"


def follows(offset: int, after: int) -> bool:
    """Whether an entry carries the number after another's."""
    return (offset - after) % NUMBERS == 1


def written_at(offset: int) -> datetime:
    """When the entry at an offset was written, by the server's clock."""
    return _EPOCH + timedelta(milliseconds=offset >> _NUMBER_BITS)


def recorded_shards(client: redis.Redis[bytes]) -> int | None:
    """The shard count with which the log was created; None before the first event."""
    recorded: Any = client.hget(RECORD, "shards")
    return None if recorded is None else int(recorded)


def other_shards(wanted: int, recorded: int) -> SettingsError:
    """The error of a log that has another number of shards."""
    return SettingsError(
        "shards of the event log",
        wanted,
        f"{recorded}, with which the log was created",
        f"say {recorded}, or replay its events into a new log: a key's shard never changes",
    )


def check_resume(client: redis.Redis[bytes], partition: Partition, offset: int) -> None:
    """Make sure that no entry after an offset is gone from a stream.

    Raises:
        LogGapError: some are, with how many, and of which time.
    """
    name, position = stream_name(*partition), entry_id(offset)
    if client.xrange(name, position, position, count=1):
        return  # entries go from the oldest on: with this one kept, all later ones are
    try:
        stream: Any = client.xinfo_stream(name)
    except ResponseError:  # no such stream
        raise LogGapError(*partition, offset, None) from None
    last = offset_of(stream["last-generated-id"].decode())
    removed = stream["entries-added"] - stream["length"]
    if last < offset or not removed:
        raise LogGapError(*partition, offset, None)
    if stream["length"]:
        until = offset_of(stream["recorded-first-entry-id"].decode())
        missing = (until - offset - 1) % NUMBERS
    else:
        until, missing = last, (last - offset) % NUMBERS
    missing = min(missing, removed)
    if missing:
        raise LogGapError(
            *partition, offset, missing, since=written_at(offset), until=written_at(until)
        )


def gone_entries(client: redis.Redis[bytes], partition: Partition) -> int:
    """How many entries of a stream are no longer kept."""
    try:
        stream: Any = client.xinfo_stream(stream_name(*partition))
    except ResponseError:
        return 0
    return int(stream["entries-added"] - stream["length"])
