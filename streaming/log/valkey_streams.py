"""Valkey/Redis Streams as a log: Arrow frames, one stream a shard.

At least once, replayable while entries are kept: each stream is trimmed to about `MAX_FRAMES`
frames, so a reader must never fall that far behind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import redis

from feature_repo.contracts.events import EVENT_SCHEMA
from feature_repo.contracts.settings import SHARDS
from streaming.log.frames import Frame, split_by_shard

MAX_FRAMES = 100_000
_FIELD = b"arrow"
_FRAMES_A_POLL = 64
_START = "0-0"


def stream_name(shard: int) -> str:
    """The stream that holds a shard's events."""
    return f"daima:events:{shard}"


def offset_of(entry_id: str) -> int:
    """An entry id `ms-seq` as one rising integer.

    >>> offset_of("1700000000000-3")
    1700000000000000003
    """
    milliseconds, _, sequence = entry_id.partition("-")
    # 10^6 entries a millisecond and stream; 1.7e18 today, below 2^63 until the year 2262.
    return int(milliseconds) * 1_000_000 + int(sequence)


def _encode(events: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, EVENT_SCHEMA) as writer:
        writer.write_batch(events)
    return bytes(sink.getvalue().to_pybytes())


def _decode(payload: bytes) -> pa.RecordBatch:
    with pa.ipc.open_stream(pa.py_buffer(payload)) as reader:
        return reader.read_next_batch()


class ValkeyLog:
    """Appends events to the log; each shard's rows go to its own stream, in one round trip."""

    def __init__(self, client: redis.Redis[bytes]) -> None:
        self._client = client

    def append(self, events: pa.RecordBatch) -> int:
        """Append a batch of `EVENT_SCHEMA`; returns the number of events once the log has them."""
        with self._client.pipeline(transaction=False) as pipeline:
            for shard, rows in split_by_shard(events):
                pipeline.xadd(
                    stream_name(shard), {_FIELD: _encode(rows)}, maxlen=MAX_FRAMES, approximate=True
                )
            pipeline.execute()
        return len(events)


class ValkeyLogReader:
    """Reads every shard's stream, from the oldest entry kept.

    Args:
        client: a redis client whose responses are bytes.
        stopped: asked at each poll; once true, the log counts as ended.
    """

    def __init__(self, client: redis.Redis[bytes], stopped: Callable[[], bool]) -> None:
        self._client = client
        self._stopped = stopped
        self._positions = dict.fromkeys(range(SHARDS), _START)

    def poll(self) -> list[Frame]:
        """Frames that have arrived since the last poll, one round trip for all shards."""
        if self._stopped():
            raise StopIteration
        streams: dict[Any, Any] = {
            stream_name(shard): position for shard, position in self._positions.items()
        }
        frames = []
        for name, entries in self._client.xread(streams, count=_FRAMES_A_POLL) or []:
            shard = int(name.decode().rpartition(":")[2])
            for entry_id, fields in entries:
                position = entry_id.decode()
                frames.append(Frame(shard, offset_of(position), _decode(fields[_FIELD])))
                self._positions[shard] = position
        return frames

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
