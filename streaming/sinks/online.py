"""The online sink: the state of each touched key into the online store, fenced."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from feature_repo.contracts.errors import StoreUnavailableError
from feature_repo.contracts.feature_set import EntityKey
from feature_repo.contracts.settings import PROJECT
from feature_repo.stores.fenced_writes import FENCED_WRITE, keys_per_call
from feature_repo.stores.redis_layout import entity_key_encoder
from streaming.sinks.resp import CallPacker, Rows
from streaming.sinks.waiting import Waiting

# Rows packed at once, into a buffer that stays in the processor's cache; whole calls.
CHUNK_ROWS = 1_024
# What may wait for the store: 40,000 states. Beyond it, `write` waits.
WAITING_BYTES = 32 << 20
RETRY_FOR_S = 30.0
_RETRY_EVERY_S = 0.2


class OnlineWriter:
    """Writes states over one connection, from a thread of its own.

    The thread writes at once when it is idle. While it is busy states wait, and of a key's only
    the newest is written. A lost connection is made anew and everything unanswered is sent again:
    the fences refuse what had arrived.

    Args:
        client: the store; one connection of its pool is the writer's until `close`.
        project: the Feast project, part of every key.
        retry_for_s: how long the store may be away before that is an error.

    Attributes:
        written: rows that the store has taken.
        refused: rows that it has refused, as it held as late a fence: a replay, or what was sent
            again after an outage.
        replaced: rows not sent, since a newer one of their key came while they waited.

    Raises (from `write` and `drain`, for what was handed over before):
        StoreUnavailableError: the store refused, or did not come back within `retry_for_s`.
    """

    def __init__(
        self,
        client: redis.Redis[bytes],
        project: str = PROJECT,
        retry_for_s: float = RETRY_FOR_S,
    ) -> None:
        self.written = 0
        self.refused = 0
        self.replaced = 0
        self._project = project
        self._retry_for_s = retry_for_s
        self._group = keys_per_call(client)
        self._client = client
        self._pool = client.connection_pool
        self._connection = self._pool.get_connection()
        self._packers: dict[EntityKey, CallPacker] = {}
        self._scripted = False
        self._waiting = Waiting()
        self._handed = self._done = 0  # calls of `write`: taken in, and stored
        self._closed = False
        self._changed = threading.Condition()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="online-writer", daemon=True)
        self._thread.start()

    def write(  # noqa: PLR0917 - one update's parts
        self,
        entity: EntityKey,
        generation: int,
        offset: int,
        keys: pa.StringArray,
        states: pa.BinaryArray,
        times_us: npt.NDArray[np.int64],
    ) -> None:
        """Hand states over; waits while the store is more than `WAITING_BYTES` behind.

        Args:
            entity: whose keys they are.
            generation: the generation in force.
            offset: log position of the *last* event folded into these states. With the first
                one's, a replay cut into other frames could put an older state over them.
            keys, states: shape (n,), distinct keys.
            times_us: event time of each, µs since 1970, shape (n,).
        """
        count = len(keys)
        rows = Rows(
            keys,
            states,
            np.ascontiguousarray(times_us, np.int64),
            np.full(count, generation, np.int64),
            np.full(count, offset, np.int64),
        )
        with self._changed:
            self._changed.wait_for(lambda: self._waiting.nbytes < WAITING_BYTES or self._error)
            self._raise_error()
            self._waiting.add(entity, rows)
            self._handed += 1
            self._changed.notify_all()

    def forget(self, entity: EntityKey, keys: Iterable[str]) -> None:
        """Delete all that stands under keys, other views too, after all handed over so far.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        self.mark()()
        key_of = entity_key_encoder(entity.join_key, self._project)
        try:
            for key in keys:
                self._client.delete(key_of(key))
        except RedisError as error:
            raise StoreUnavailableError(
                "online store", type(error).__name__, "values deleted", "start it, then go on"
            ) from error

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is handed over within goes to the store as one, once there is no more.

        Trap: wait for nothing else within: the thread may be what it waits for.
        """
        with self._changed:
            yield

    def mark(self) -> Callable[[], None]:
        """A function that returns once the store has acknowledged what was handed over so far."""
        handed = self._handed

        def wait() -> None:
            with self._changed:
                self._changed.wait_for(lambda: self._done >= handed)
                self._raise_error()

        return wait

    def drain(self) -> None:
        """Wait until the store has acknowledged everything handed over."""
        self.mark()()

    def close(self) -> None:
        """Drain, end the thread and give the connection back."""
        try:
            self.drain()
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()
            self._thread.join()
            self._pool.release(self._connection)

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            waiting, handed = taken
            try:
                # After an error nothing more is written: the caller is about to be told.
                if self._error is None:
                    self._flush(waiting)
            except Exception as error:  # told to the caller: this thread has none
                self._error = error
            with self._changed:
                self._done = handed
                self._changed.notify_all()

    def _take(self) -> tuple[Waiting, int] | None:
        """Everything that waits, as soon as there is something; None once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._handed > self._done or self._closed)
            if self._handed == self._done:
                return None
            taken, self._waiting = self._waiting, Waiting()
            self._changed.notify_all()
            return taken, self._handed

    def _flush(self, waiting: Waiting) -> None:
        states = [(self._packer(entity), rows) for entity, rows in waiting.newest()]
        sent = sum(len(rows) for _, rows in states)
        written = self._send(states)
        self.written += written
        self.refused += sent - written
        self.replaced += waiting.rows - sent

    def _packer(self, entity: EntityKey) -> CallPacker:
        packer = self._packers.get(entity)
        if packer is None:
            packer = self._packers[entity] = CallPacker(entity, self._project, self._group)
        return packer

    def _send(self, states: Sequence[tuple[CallPacker, Rows]]) -> int:
        """Write rows, in one round trip; returns how many the store took at the last attempt."""
        deadline = time.monotonic() + self._retry_for_s
        while True:
            try:
                # Does nothing while connected. `connect()` would try again by itself, with longer
                # and longer pauses.
                self._connection.connect_check_health(retry_socket_connect=False)
                self._load_script()
                calls = 0
                for packer, rows in states:
                    for start in range(0, len(rows), CHUNK_ROWS):
                        packed = packer.pack(rows.slice(start, CHUNK_ROWS))
                        self._connection.send_packed_command([packed])
                    calls += -(-len(rows) // packer.group)
                return self._await_replies(calls)
            except NoScriptError:  # somebody has flushed the server's scripts
                self._scripted = False
            except (RedisConnectionError, RedisTimeoutError) as error:
                self._connection.disconnect()
                self._scripted = False
                if time.monotonic() > deadline:
                    raise StoreUnavailableError(
                        "online store",
                        expected=f"an answer within {self._retry_for_s:g} s",
                        action="start it, then replay the log",
                    ) from error
                time.sleep(_RETRY_EVERY_S)

    def _load_script(self) -> None:
        if not self._scripted:
            self._connection.send_command("SCRIPT", "LOAD", FENCED_WRITE)
            self._connection.read_response()
            self._scripted = True

    def _await_replies(self, count: int) -> int:
        written = 0
        refusal: ResponseError | None = None
        for _ in range(count):
            try:
                written += int(self._connection.read_response())
            except ResponseError as error:  # read on: the replies behind it belong to others
                refusal = refusal or error
        if isinstance(refusal, NoScriptError):
            raise refusal
        if refusal:
            raise StoreUnavailableError(
                "online store", str(refusal), "writes accepted", "mend the store, then replay"
            )
        return written
