"""Valkey/Redis Streams as a log: Arrow frames, one stream a shard.

At least once, replayable while entries are kept: each stream is trimmed to about `MAX_FRAMES`
frames, so a reader must never fall that far behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from feature_repo.contracts.errors import StoreUnavailableError
from feature_repo.contracts.events import EVENT_SCHEMA
from feature_repo.contracts.money import ExchangeRates
from feature_repo.contracts.settings import SHARDS
from streaming.log.frames import Frame, Unreadable, split_by_shard

# A frame of one event takes 2.6 kB: at most about 420 MB of one-event frames in all streams.
MAX_FRAMES = 20_000
_FIELD = b"arrow"
_FRAMES_A_POLL = 64
_SHOWN = 500
RETRY_FOR_S = 30.0
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


def _decode(shard: int, entry_id: str, fields: dict[bytes, bytes]) -> Frame | Unreadable:
    """The frame in an entry; whatever a producer may have written, nothing is raised."""
    offset = offset_of(entry_id)
    payload = fields.get(_FIELD)
    reason = f"the field {_FIELD.decode()} with an Arrow stream of the event schema"
    if payload is not None:
        try:
            with pa.ipc.open_stream(pa.py_buffer(payload)) as reader:
                if _same_columns(reader.schema):
                    table = reader.read_all().combine_chunks()
                    batches = table.to_batches() or [pa.RecordBatch.from_pylist([], EVENT_SCHEMA)]
                    return Frame(shard, offset, batches[0])
                reason = f"the event schema, not {_differing(reader.schema)}"
        except (pa.ArrowException, OSError) as error:
            reason = f"{reason} ({error})"
    return Unreadable(shard, offset, repr(payload or fields)[:_SHOWN], reason)


def _same_columns(schema: pa.Schema) -> bool:
    """Whether a schema has the events' columns; what may be null is checked by row."""
    return bool(schema.names == EVENT_SCHEMA.names and schema.types == EVENT_SCHEMA.types)


def _differing(schema: pa.Schema) -> str:
    """The columns in which a schema is another than the events'."""
    wanted = {field.name: field.type for field in EVENT_SCHEMA}
    strange = [str(field) for field in schema if wanted.get(field.name) != field.type]
    missing = [f"no {name}" for name in EVENT_SCHEMA.names if name not in schema.names]
    return ", ".join([*missing, *strange]) or "another order of columns"


class ValkeyLog:
    """Appends events to the log; each shard's rows go to its own stream, in one round trip.

    The amounts in the reference currency are added here, from the dated exchange rates.
    """

    def __init__(self, client: redis.Redis[bytes], rates: ExchangeRates | None = None) -> None:
        self._client = client
        self._rates = rates or ExchangeRates()

    def append(self, events: pa.RecordBatch) -> int:
        """Append a batch of `EVENT_SCHEMA`; returns the number of events once the log has them."""
        with self._client.pipeline(transaction=False) as pipeline:
            for shard, rows in split_by_shard(self._rates.with_reference_amounts(events)):
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
        retry_for_s: how long the server may be away before that is an error.
    """

    def __init__(
        self,
        client: redis.Redis[bytes],
        stopped: Callable[[], bool],
        retry_for_s: float = RETRY_FOR_S,
    ) -> None:
        self._client = client
        self._stopped = stopped
        self._retry_for_s = retry_for_s
        self._answered_s = time.monotonic()
        self._positions = dict.fromkeys(range(SHARDS), _START)

    def poll(self) -> list[Frame | Unreadable]:
        """Frames that have arrived since the last poll, one round trip for all shards.

        Raises:
            StopIteration: `stopped()`.
            StoreUnavailableError: the server has been away for too long.
        """
        if self._stopped():
            raise StopIteration
        streams: dict[Any, Any] = {
            stream_name(shard): position for shard, position in self._positions.items()
        }
        try:
            answer = self._client.xread(streams, count=_FRAMES_A_POLL) or []
        except (RedisConnectionError, RedisTimeoutError) as error:
            if time.monotonic() - self._answered_s > self._retry_for_s:
                raise StoreUnavailableError(
                    "event log",
                    expected=f"an answer within {self._retry_for_s:g} s",
                    action="start the server, then this command again",
                ) from error
            return []
        self._answered_s = time.monotonic()
        entries = []
        for name, found in answer:
            shard = int(name.decode().rpartition(":")[2])
            for entry_id, fields in found:
                entries.append(_decode(shard, entry_id.decode(), fields))
                self._positions[shard] = entry_id.decode()
        return entries

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
