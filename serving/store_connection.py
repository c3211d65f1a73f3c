"""The connection to the online store: pipelined, coalesced, retried once, with plain errors.

One connection carries all requests of an event loop: the store answers in order, and everything
that one turn of the loop asks goes out in one write. Answers stay bytes in the connection's own
buffer until whoever asked has taken what it wants of them (`serving/stored_kernel.py`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

import hiredis

from feature_repo.contracts.errors import StoreUnavailableError
from feature_repo.contracts.redis_address import parse_address
from serving.settings import ServingSettings
from serving.store_cluster import ClusterWire
from serving.store_dial import dial
from serving.store_wire import Ask, Bytes, StoreWire, encode_command, parse_answers

# One command: a hash and the fields wanted of it; its answer: their values, None where absent.
HashRead = tuple[bytes, Sequence[bytes]]
HashValues = list[bytes | None]

_SWEEPS = 10  # looks at the clock within a time-out


class StoreConnection:
    """The connection to the online store of one event loop.

    A connection that the server has dropped is replaced within the request, once; a server that
    is away or does not answer within the timeout is a `StoreUnavailableError`. Nothing is
    remembered of a failure: the first request after the store's return succeeds.
    """

    def __init__(self, settings: ServingSettings) -> None:
        self._address = parse_address(settings.shared.redis)
        # The address may say otherwise, as with redis-py.
        said = self._address.options.get("socket_timeout")
        self._timeout_s = settings.store_timeout.total_seconds() if said is None else float(said)
        self.address = settings.shared.redis_address
        self._waiting: deque[Ask] = deque()
        self._wire: StoreWire | ClusterWire | None = None
        self._dialling: asyncio.Task[None] | None = None
        # Connections that were given up and are not closed to the end yet.
        self._leaving: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._flushing = self._sweeping = self._closed = False

    def ask(self, ask: Ask) -> None:
        """Send commands with this turn's others; from the event loop."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        ask.at_s = self._loop.time()
        self._waiting.append(ask)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send now what waits; or once there is a connection."""
        self._flushing = False
        if not self._waiting or self._loop is None:
            return
        wire = self._wire
        if wire is not None and wire.is_open:
            wire.send(self._waiting)
            self._waiting = deque()
        elif self._dialling is None:
            self._dialling = self._loop.create_task(self._dial())
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_later(self._timeout_s / _SWEEPS, self._sweep)

    async def read(self, commands: Sequence[HashRead]) -> list[HashValues]:
        """Answer every HMGET, in order, in one round trip.

        Raises:
            StoreUnavailableError: the store is away, slow or refuses.
        """
        payload = b"".join(encode_command(b"HMGET", key, *fields) for key, fields in commands)
        answers: list[HashValues] = await self._answers(payload, len(commands))
        return answers

    async def ping(self) -> None:
        """Ask for a sign of life.

        Raises:
            StoreUnavailableError: the store is away, slow or refuses.
        """
        await self._answers(encode_command(b"PING"), 1)

    async def close(self) -> None:
        """Close the connection; what waits fails."""
        self._closed = True
        ending = set(self._leaving)
        if self._dialling is not None:
            self._dialling.cancel()
            ending.add(self._dialling)
        self._fail(self._waiting, ConnectionError("closed"))
        self._waiting = deque()
        if self._wire is not None:
            self._wire.close()
            await self._wire.wait_closed()
        if ending:
            await asyncio.wait(ending)

    async def _answers(self, payload: bytes, answers: int) -> list[Any]:
        if self._closed:
            raise self._unavailable(ConnectionError("closed"))
        done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def take(buffer: Bytes, begin: int, end: int) -> None:
            if not done.done():
                done.set_result(buffer[begin:end].tobytes())

        def fail(error: Exception) -> None:
            if not done.done():
                done.set_exception(error)

        self.ask(Ask(payload, answers, take, fail))
        found = parse_answers(await done, answers)
        for answer in found:
            if isinstance(answer, hiredis.ReplyError):
                raise self._unavailable(answer)
        return found

    async def _dial(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                wire = await dial(self._address, self._timeout_s)
        except Exception as error:  # of the network, of TLS, of redis-py: the store is not there
            self._dialling = None
            waiting, self._waiting = self._waiting, deque()
            self._fail(waiting, error)
            return
        self._dialling = None
        if self._closed:
            wire.close()
            await wire.wait_closed()
            return
        wire.lost = self._lost
        self._wire = wire
        self.flush()

    def _lost(self, unanswered: deque[Ask], error: Exception) -> None:
        """The server has dropped the connection: ask again, what was not asked twice."""
        self._let_go()
        again = deque(ask for ask in unanswered if not ask.sent_before)
        self._fail((ask for ask in unanswered if ask.sent_before), error)
        if self._closed:
            self._fail(again, error)
            return
        for ask in again:
            ask.sent_before = True
        self._waiting.extendleft(reversed(again))
        self.flush()

    def _let_go(self) -> None:
        """Have the connection close by itself; the next request makes another."""
        wire, self._wire = self._wire, None
        if wire is not None and self._loop is not None:
            leaving = self._loop.create_task(wire.wait_closed())
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)

    def _sweep(self) -> None:
        """Fail what has waited too long; a connection that does not answer is given up."""
        loop = self._loop
        if loop is None:
            return
        late_s = loop.time() - self._timeout_s
        wire = self._wire
        unanswered = wire.unanswered if wire is not None else ()
        if unanswered and unanswered[0].at_s < late_s and wire is not None:
            given_up = wire.abandon()
            self._let_go()
            self._fail(given_up, TimeoutError())
        late = deque(ask for ask in self._waiting if ask.at_s < late_s)
        if late:
            self._waiting = deque(ask for ask in self._waiting if ask.at_s >= late_s)
            self._fail(late, TimeoutError())
        if self._waiting or (self._wire is not None and self._wire.unanswered):
            loop.call_later(self._timeout_s / _SWEEPS, self._sweep)
        else:
            self._sweeping = False

    def _fail(self, asks: Any, error: Exception) -> None:
        reason = error if isinstance(error, StoreUnavailableError) else self._unavailable(error)
        for ask in asks:
            ask.fail(reason)

    def refused(self, answer: bytes) -> StoreUnavailableError:
        """The error of an answer that is not what was asked for; its first word is named."""
        word = answer.split(maxsplit=1)[0].decode("ascii", "replace") if answer else "nothing"
        return unavailable(self.address, word[:32])

    def _unavailable(self, error: Exception) -> StoreUnavailableError:
        return unavailable(self.address, error)


def unavailable(address: str, error: Exception | str) -> StoreUnavailableError:
    """The error of a store that does not answer as it should.

    The cause's text may repeat what the server was sent, a password among it: its kind is named.
    """
    reason = error if isinstance(error, str) else type(error).__name__
    return StoreUnavailableError(
        "online store", address, f"an answer (got {reason})", "try again in a second"
    )
