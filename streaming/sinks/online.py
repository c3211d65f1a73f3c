"""The online sink: each touched customer's latest row into the online store."""

from __future__ import annotations

import queue
import threading
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

# Commands sent before their replies are read: about 500 kB, whose replies (2.5 kB) never fill a
# socket buffer.
CHUNK_ROWS = 512
# Chunks that may wait for the store (8 MB): the next frame is evaluated while it writes this one.
QUEUED_CHUNKS = 16
RETRY_FOR_S = 30.0
_RETRY_EVERY_S = 0.2


class OnlineWriter:
    """Sends commands over one connection, from a thread of its own.

    The store takes longer over a row than the evaluator, so the two work side by side. A lost
    connection is made anew and the chunk under way is sent again: a HSET of a whole row is
    idempotent.

    Raises (from `write` and `drain`, for what was handed over before):
        StoreUnavailableError: the store refused, or did not come back within `retry_for_s`.
    """

    def __init__(self, client: redis.Redis[bytes], retry_for_s: float = RETRY_FOR_S) -> None:
        self._pool = client.connection_pool
        self._connection = self._pool.get_connection()
        self._retry_for_s = retry_for_s
        self._chunks: queue.Queue[list[bytes] | None] = queue.Queue(QUEUED_CHUNKS)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="online-writer", daemon=True)
        self._thread.start()

    def write(self, commands: list[bytes]) -> None:
        """Hand commands over; waits while the store is more than `QUEUED_CHUNKS` behind."""
        for start in range(0, len(commands), CHUNK_ROWS):
            self._raise_error()
            self._chunks.put(commands[start : start + CHUNK_ROWS])

    def drain(self) -> None:
        """Wait until the store has acknowledged everything handed over."""
        self._chunks.join()
        self._raise_error()

    def close(self) -> None:
        """Drain, end the thread and give the connection back."""
        try:
            self.drain()
        finally:
            self._chunks.put(None)
            self._thread.join()
            self._pool.release(self._connection)

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (chunk := self._chunks.get()) is not None:
            try:
                # After an error nothing more is written: the caller is about to be told.
                if self._error is None:
                    self._send(chunk)
            except Exception as error:  # told to the caller: this thread has none
                self._error = error
            finally:
                self._chunks.task_done()

    def _send(self, chunk: list[bytes]) -> None:
        deadline = time.monotonic() + self._retry_for_s
        while True:
            try:
                self._connection.connect()  # does nothing while connected
                self._connection.send_packed_command([b"".join(chunk)])
                self._await_replies(len(chunk))
                return
            except (RedisConnectionError, RedisTimeoutError) as error:
                self._connection.disconnect()
                if time.monotonic() > deadline:
                    raise StoreUnavailableError(
                        "online store",
                        expected=f"an answer within {self._retry_for_s:g} s",
                        action="start it, then replay the log",
                    ) from error
                time.sleep(_RETRY_EVERY_S)

    def _await_replies(self, count: int) -> None:
        refusal: ResponseError | None = None
        for _ in range(count):
            try:
                self._connection.read_response()
            except ResponseError as error:  # read on: the replies behind it belong to others
                refusal = refusal or error
        if refusal:
            raise StoreUnavailableError(
                "online store", str(refusal), "writes accepted", "mend the store, then replay"
            )


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
