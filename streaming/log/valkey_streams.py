"""Valkey/Redis Streams as a log: Arrow frames, one stream an (entity, shard).

At least once, and replayable for as long as entries are kept (`valkey_retention`). Needs Redis 7
or Valkey, with append-only persistence where events must outlive the server.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from feature_repo.contracts.errors import StoreUnavailableError
from feature_repo.contracts.feature_set import FeatureSet
from feature_repo.contracts.money import ExchangeRates
from feature_repo.contracts.settings import SHARDS
from streaming.log.arrow_frames import decode_frame, encode_frame
from streaming.log.entity_frames import EntityFrames, with_missing_amounts
from streaming.log.errors import DeliveryError
from streaming.log.frames import Frame, Partition, Positions, Unreadable
from streaming.log.valkey_layout import (
    FIELD,
    NUMBERS,
    RECORD,
    check_resume,
    entry_id,
    follows,
    gone_entries,
    offset_of,
    other_shards,
    partition_of,
    recorded_shards,
    stream_name,
)

RETRY_FOR_S = 30.0
# Events written in one step; a frame holds those of one shard.
APPEND_ROWS = 16_384
_RETRY_AFTER_S = 0.2
_FIRST_ENTRIES = 16  # a poll and stream, until the size of entries is known
_MOST_ENTRIES = 4_096
# About 170,000 events: a stream that is behind catches up in large steps.
_POLL_BYTES = 32 << 20
_SHOWN = 500
_START = "0-0"
_AWAY = (RedisConnectionError, RedisTimeoutError)

# All streams or none: KEYS are the record and the streams, ARGV the shard count and the frames.
# An id of the clock's millisecond is refused where the clock went back, or where somebody else
# has written; the entry then takes the millisecond after the last.
_APPEND = f"""
local shards = redis.call('HGET', KEYS[1], 'shards')
if not shards then redis.call('HSET', KEYS[1], 'shards', ARGV[1])
elseif shards ~= ARGV[1] then return redis.error_reply('SHARDS ' .. shards) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 2, #KEYS do
  local number = redis.call('HINCRBY', KEYS[1], KEYS[i], 1) % {NUMBERS}
  local id = string.format('%.0f-%d', now, number)
  local written = redis.pcall('XADD', KEYS[i], id, '{FIELD.decode()}', ARGV[i])
  if type(written) == 'table' then
    local stream = redis.call('XINFO', 'STREAM', KEYS[i])
    for j = 1, #stream, 2 do
      if stream[j] == 'last-generated-id' then
        local last = tonumber(string.match(stream[j + 1], '^%d+'))
        id = string.format('%.0f-%d', last + 1, number)
      end
    end
    redis.call('XADD', KEYS[i], id, '{FIELD.decode()}', ARGV[i])
  end
end
return #KEYS - 1
"""


class ValkeyLog:
    """Appends events to the streams of every (entity, shard), in one round trip.

    The amounts in the reference currency are added here, from the dated exchange rates. A lost
    connection is tried again for a while: events may then stand in the log twice, which changes
    nothing.

    Args:
        client: a redis client whose responses are bytes.
        feature_set: whose entities the log serves.
        shards: partitions of each entity's stream; recorded by the first event.
        rates: dated exchange rates; the ones that come with daima unless given.
        retry_for_s: how long the server may be away before that is an error.
    """

    def __init__(
        self,
        client: redis.Redis[bytes],
        feature_set: FeatureSet,
        shards: int = SHARDS,
        rates: ExchangeRates | None = None,
        retry_for_s: float = RETRY_FOR_S,
    ) -> None:
        self._client = client
        self._retry_for_s = retry_for_s
        self._frames = EntityFrames(feature_set, shards)
        self._rates = rates or ExchangeRates()

    def append(self, events: pa.RecordBatch) -> int:
        """Append a batch of `EVENT_SCHEMA`; returns its number of events once the log has them.

        Raises:
            DeliveryError: the server did not confirm some of them; it says which.
            SettingsError: the log was created with another number of shards.
        """
        events = with_missing_amounts(events, self._rates)
        for start in range(0, len(events), APPEND_ROWS):
            step = events.slice(start, APPEND_ROWS)
            try:
                self._write(self._frames.split(step))
            except RedisError as error:
                if isinstance(error, ResponseError) and str(error).startswith("SHARDS "):
                    recorded = int(str(error).split()[1])
                    raise other_shards(self._frames.shards, recorded) from error
                waiting = events.slice(start).column("event_id").to_pylist()
                raise DeliveryError(start, waiting, str(error)) from error
        return len(events)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _write(self, frames: list[tuple[Partition, pa.RecordBatch]]) -> None:
        names = [RECORD, *(stream_name(*partition) for partition, _ in frames)]
        values = [str(self._frames.shards), *(encode_frame(rows) for _, rows in frames)]
        give_up_s = time.monotonic() + self._retry_for_s
        while True:
            try:
                self._client.eval(_APPEND, len(names), *names, *values)
                return
            except _AWAY:
                if time.monotonic() >= give_up_s:
                    raise
                time.sleep(_RETRY_AFTER_S)


class ValkeyLogReader:
    """Reads the streams of some partitions, each from its own position.

    Args:
        client: a redis client whose responses are bytes.
        partitions: which, and after which offset; None: from the oldest entry kept.
        stopped: asked at each poll; once true, the log counts as ended.
        retry_for_s: how long the server may be away before that is an error.

    Attributes:
        gone: see `LogReader`.
    """

    def __init__(
        self,
        client: redis.Redis[bytes],
        partitions: Positions,
        stopped: Callable[[], bool],
        retry_for_s: float = RETRY_FOR_S,
    ) -> None:
        self.gone: dict[Partition, int] = {}
        self._client = client
        self._stopped = stopped
        self._retry_for_s = retry_for_s
        self._answered_s = time.monotonic()
        self._positions = dict(partitions)
        self._checked = False
        self._entries = _FIRST_ENTRIES

    def poll(self) -> list[Frame | Unreadable]:
        """Frames that have arrived since the last poll, one round trip for all partitions.

        Raises:
            StopIteration: `stopped()`.
            LogGapError: entries that were to be read next are gone.
            SettingsError: the log was created with fewer shards than the partitions say.
            StoreUnavailableError: the server has been away for too long.
        """
        if self._stopped():
            raise StopIteration
        try:
            if not self._checked:
                self._check()
            entries = self._read()
        except _AWAY as error:
            if time.monotonic() - self._answered_s > self._retry_for_s:
                raise StoreUnavailableError(
                    "event log",
                    expected=f"an answer within {self._retry_for_s:g} s",
                    action="start the server, then this command again",
                ) from error
            return []
        self._answered_s = time.monotonic()
        return entries

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _check(self) -> None:
        recorded = recorded_shards(self._client)
        wanted = max((shard for _, shard in self._positions), default=-1) + 1
        if recorded is not None and wanted > recorded:
            raise other_shards(wanted, recorded)
        for partition, offset in self._positions.items():
            if offset is not None:
                check_resume(self._client, partition, offset)
            elif gone := gone_entries(self._client, partition):
                self.gone[partition] = gone
        self._checked = True

    def _read(self) -> list[Frame | Unreadable]:
        streams: dict[Any, Any] = {
            stream_name(*partition): _START if offset is None else entry_id(offset)
            for partition, offset in self._positions.items()
        }
        answer: Any = self._client.xread(streams, count=self._entries) if streams else []
        found = [(partition_of(name), entries) for name, entries in answer or []]
        for partition, entries in found:
            self._check_next(partition, offset_of(entries[0][0].decode()))
        self._adapt(found)
        read: list[Frame | Unreadable] = []
        for partition, entries in found:
            offsets = [offset_of(raw_id.decode()) for raw_id, _ in entries]
            for offset, (_, fields) in zip(offsets, entries, strict=True):
                read.append(_decode(partition, offset, fields))
            self._positions[partition] = offsets[-1]
        return read

    def _check_next(self, partition: Partition, offset: int) -> None:
        """Stop where the stream was trimmed past the position while it was read."""
        position = self._positions[partition]
        if position is not None and not follows(offset, position):
            check_resume(self._client, partition, position)

    def _adapt(self, found: list[tuple[Partition, Any]]) -> None:
        """Ask for as many entries the next time as fit `_POLL_BYTES`."""
        sizes = [
            len(value) for _, entries in found for _, fields in entries for value in fields.values()
        ]
        if sizes:
            fit = _POLL_BYTES * len(sizes) // (max(1, sum(sizes)) * len(self._positions))
            self._entries = min(max(fit, 1), _MOST_ENTRIES)


def _decode(partition: Partition, offset: int, fields: dict[bytes, bytes]) -> Frame | Unreadable:
    """The frame in an entry; whatever a producer may have written, nothing is raised."""
    payload = fields.get(FIELD)
    if payload is None:
        reason = f"the field {FIELD.decode()} with an Arrow stream of the event schema"
        return Unreadable(*partition, offset, repr(fields)[:_SHOWN], reason)
    events = decode_frame(payload)
    if isinstance(events, str):
        return Unreadable(*partition, offset, repr(payload)[:_SHOWN], events)
    return Frame(*partition, offset, events)
