"""The online sink: each touched customer's latest row into the online store."""

from __future__ import annotations

import time
from collections.abc import Callable

import redis
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from feature_repo.contracts.errors import StoreUnavailableError
from streaming.sinks.resp import HsetEncoder
from streaming.updates import Update

# Commands sent before their replies are awaited: while the server works on one chunk, the next is
# encoded. 512 rows are about 500 kB, and their replies (2.5 kB) never fill a socket buffer.
CHUNK_ROWS = 512
RETRY_FOR_S = 30.0
_RETRY_EVERY_S = 0.2


class OnlineWriter:
    """Sends commands over one connection, one chunk ahead of the replies.

    A lost connection is made anew and what was not acknowledged is sent again: a HSET of a whole
    row is idempotent.

    Raises (from `write`, `drain`):
        StoreUnavailableError: the store did not come back within `retry_for_s`.
    """

    def __init__(self, client: redis.Redis[bytes], retry_for_s: float = RETRY_FOR_S) -> None:
        self._pool = client.connection_pool
        self._connection = self._pool.get_connection()
        self._retry_for_s = retry_for_s
        self._unacknowledged: list[bytes] = []

    def write(self, commands: list[bytes]) -> None:
        """Send commands; returns when all but the last chunk are acknowledged."""
        for start in range(0, len(commands), CHUNK_ROWS):
            chunk = commands[start : start + CHUNK_ROWS]
            previous, self._unacknowledged = self._unacknowledged, chunk
            try:
                self._connection.send_packed_command([b"".join(chunk)])
                self._await_replies(len(previous))
            except (RedisConnectionError, RedisTimeoutError):
                self._unacknowledged = previous + chunk
                self._send_again()

    def drain(self) -> None:
        """Wait until everything sent is acknowledged."""
        try:
            self._await_replies(len(self._unacknowledged))
        except (RedisConnectionError, RedisTimeoutError):
            self._send_again()
        self._unacknowledged = []

    def close(self) -> None:
        """Drain, and give the connection back."""
        self.drain()
        self._pool.release(self._connection)

    def _await_replies(self, count: int) -> None:
        error: ResponseError | None = None
        for _ in range(count):
            try:
                self._connection.read_response()
            except ResponseError as refused:  # read on: the replies behind it belong to others
                error = error or refused
        if error:
            raise StoreUnavailableError(
                "online store", str(error), "writes accepted", "mend the store, then replay"
            )

    def _send_again(self) -> None:
        deadline = time.monotonic() + self._retry_for_s
        while True:
            try:
                self._connection.disconnect()
                self._connection.connect()
                self._connection.send_packed_command([b"".join(self._unacknowledged)])
                self._await_replies(len(self._unacknowledged))
                self._unacknowledged = []
                return
            except (RedisConnectionError, RedisTimeoutError) as error:
                if time.monotonic() > deadline:
                    raise StoreUnavailableError(
                        "online store",
                        expected=f"an answer within {self._retry_for_s:g} s",
                        action="start it, then replay the log",
                    ) from error
                time.sleep(_RETRY_EVERY_S)


class _OnlinePartition(StatelessSinkPartition[tuple[str, Update]]):
    def __init__(self, writer: OnlineWriter, written: Callable[[int], None]) -> None:
        self._writer = writer
        self._encoder = HsetEncoder()
        self._written = written

    def write_batch(self, items: list[tuple[str, Update]]) -> None:
        for _, update in items:
            self._writer.write(self._encoder.commands(update.rows.latest))
            self._written(len(update.rows.latest))

    def close(self) -> None:
        self._writer.close()


class OnlineSink(DynamicSink[tuple[str, Update]]):
    """Writes the latest rows of every update; `written` is called with their number."""

    def __init__(
        self,
        connect: Callable[[], redis.Redis[bytes]],
        written: Callable[[int], None] = lambda rows: None,
    ) -> None:
        self._connect = connect
        self._written = written

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _OnlinePartition:
        """Open the worker's own connection."""
        return _OnlinePartition(OnlineWriter(self._connect()), self._written)
