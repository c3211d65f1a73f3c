"""The output log of the stream scorer: a stream of predictions a model and partition, in Valkey.

What is emitted and how far the event log has been scored are one atomic step, so that a restart
goes on exactly after what stands in the log: nothing is emitted twice and nothing is left out.
Who writes says from where it goes on; another who has meanwhile written is found out (`MOVED`).

    daima:predictions:{MODEL/PARTITION}            stream of event_id, customer, prediction
    daima:predictions:{MODEL/PARTITION}:position   hash: event log -> offset scored last
    daima:predictions:{MODEL/PARTITION}:seen       sorted set: ids of lately scored events
    daima:predictions                              hash: model -> number of partitions

The braces keep the keys of a step on one node of a Cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
from redis.exceptions import ResponseError

from feature_repo.contracts.errors import DaimaError

ROOT = "daima:predictions"
EVENT_ID, CUSTOMER, PREDICTION = b"event_id", b"customer", b"prediction"
# A producer that lost a connection sends events again; an event id counts once in so long.
REMEMBERED = timedelta(hours=1)

# KEYS: stream, position, seen. ARGV: log, position so far, new position, kept for (ms), remembered
# for (ms); then event id, customer and prediction of each. Returns how many were written.
_EMIT = """
local call = redis.call
local stored = call('HGET', KEYS[2], ARGV[1]) or ''
if stored == ARGV[3] then return 0 end
if stored ~= ARGV[2] then return redis.error_reply('MOVED_ON ' .. stored) end
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local oldest = string.format('%.0f', now - ARGV[4])
call('ZREMRANGEBYSCORE', KEYS[3], '-inf', string.format('(%.0f', now - ARGV[5]))
local written = 0
for i = 6, #ARGV, 3 do
  if call('ZADD', KEYS[3], 'NX', string.format('%.0f', now), ARGV[i]) == 1 then
    call('XADD', KEYS[1], 'MINID', '~', oldest, '*', 'event_id', ARGV[i],
      'customer', ARGV[i + 1], 'prediction', ARGV[i + 2])
    written = written + 1
  end
end
call('HSET', KEYS[2], ARGV[1], ARGV[3])
return written
"""


class ScoreLogError(DaimaError):
    """Another process scores the same partition."""


class StreamPrediction(msgspec.Struct, kw_only=True):
    """A prediction for an event, as it stands in the log and as watchers see it.

    Attributes:
        event_id, event_type: of the event that triggered it.
        at: the event's instant, as of which features were taken (ISO 8601, UTC).
        scored_at: when it was scored.
        features: FRESH, or STALE: the event was not in the customer's state in time.
        not_present: view:feature -> status, of features that were not PRESENT.
        error: why there is no prediction; null as a rule.
    """

    event_id: str
    event_type: str
    customer: str
    at: str
    scored_at: str
    model: str
    partition: int
    features: str
    request_id: str
    version: str | None = None
    alias: str | None = None
    score: float | None = None
    prediction: float | None = None
    unit: str | None = None
    probability: float | None = None
    decision: Any = None
    corridor: str | None = None
    not_present: dict[str, str] = {}
    error: str | None = None


def stream_key(model: str, partition: int) -> str:
    """The stream of a model's predictions for the events of one partition.

    >>> stream_key("session_duration", 3)
    'daima:predictions:{session_duration/3}'
    """
    return f"{ROOT}:{{{model}/{partition}}}"


def partition_of(stream: str) -> tuple[str, int]:
    """The model and partition of a stream.

    >>> partition_of("daima:predictions:{session_duration/3}")
    ('session_duration', 3)
    """
    model, _, partition = stream.removeprefix(f"{ROOT}:{{").removesuffix("}").rpartition("/")
    return model, int(partition)


class ScoreLog:
    """Writes predictions, and remembers how far the event log has been scored.

    Args:
        client: a redis client whose responses are bytes.
        log: which event log, as `valkey`.
        retention: how long predictions are kept.
    """

    def __init__(self, client: Any, log: str, retention: timedelta) -> None:
        self._client = client
        self._log = log
        self._kept_ms = str(retention // timedelta(milliseconds=1))
        self._remembered_ms = str(REMEMBERED // timedelta(milliseconds=1))

    def position(self, model: str, partition: int) -> int | None:
        """The offset up to which a partition has been scored; None: nothing yet."""
        found = self._client.hget(_position_key(model, partition), self._log)
        return None if found is None else int(found)

    def open(self, model: str, partitions: int) -> None:
        """Say how many partitions a model's predictions come from, for those who watch."""
        self._client.hset(ROOT, model, partitions)

    def emit(
        self,
        model: str,
        partition: int,
        after: int | None,
        offset: int,
        predictions: Sequence[StreamPrediction],
    ) -> int:
        """Write predictions and the position behind them, in one step.

        Args:
            after: the position before; None for none.
            offset: the position behind; later.

        Returns:
            How many were new; an event id that came again is left out. 0 where the step was done
            before (its answer was lost).

        Raises:
            ScoreLogError: the position is another than `after`.
            redis.RedisError: the server does not answer; ask again.
        """
        arguments: list[Any] = [
            self._log,
            "" if after is None else str(after),
            str(offset),
            self._kept_ms,
            self._remembered_ms,
        ]
        for each in predictions:
            arguments += [each.event_id, each.customer, msgspec.json.encode(each)]
        stream = stream_key(model, partition)
        keys = [stream, _position_key(model, partition), f"{stream}:seen"]
        try:
            return int(self._client.eval(_EMIT, len(keys), *keys, *arguments))
        except ResponseError as error:
            if not str(error).startswith("MOVED_ON"):
                raise
            raise ScoreLogError(
                f"predictions of {model}, partition {partition}",
                str(error).partition(" ")[2] or "at the beginning",
                f"position {after or 'at the beginning'}: another process scores it too",
                "run one daima score-stream a model",
            ) from error


def _position_key(model: str, partition: int) -> str:
    return f"{stream_key(model, partition)}:position"
