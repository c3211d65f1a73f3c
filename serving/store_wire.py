"""One open connection to a server of the store: commands out, answers handed on as they lie."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import hiredis
import numpy as np
import numpy.typing as npt

from serving.stored_kernel import skip_answers

log = logging.getLogger(__name__)

_ROOM = 1 << 18
_LEAST_ROOM = 1 << 16
Bytes = npt.NDArray[np.uint8]


class Ask:
    """Commands that go out together, and what to do with their answers.

    Args:
        payload: commands as they go over the wire. They only read: they may be sent again.
        answers: how many there will be.
        take: called with the connection's buffer and where the answers begin and end in it; they
            are gone when it returns.
        fail: called instead, with a `StoreUnavailableError`.
    """

    __slots__ = ("answers", "at_s", "fail", "left", "payload", "sent_before", "take")

    def __init__(
        self,
        payload: bytes,
        answers: int,
        take: Callable[[Bytes, int, int], None],
        fail: Callable[[Exception], None],
    ) -> None:
        self.payload = payload
        self.answers = self.left = answers
        self.take = take
        self.fail = fail
        self.sent_before = False
        self.at_s = 0.0


_GOODBYE_S = 1.0
_LOOK_S = 0.002
Lost = Callable[[deque[Ask], Exception], None]


class StoreWire(asyncio.BufferedProtocol):
    """Sends asks and hands each its answers, in order, out of one buffer.

    Attributes:
        unanswered: asks sent, in order.
        lost: called once with them when the server ends the connection; None: they fail.
    """

    def __init__(self) -> None:
        self.unanswered: deque[Ask] = deque()
        self.lost: Lost | None = None
        self._transport: asyncio.Transport | None = None
        self._buffer = np.empty(_ROOM, np.uint8)
        self._view = memoryview(self._buffer.data)
        # Answers not taken begin at `begin`, are looked through up to `seen`, received up to `end`.
        self._begin = self._seen = self._end = 0

    @property
    def is_open(self) -> bool:
        """Whether commands can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, asks: deque[Ask]) -> None:
        """Send commands in one write."""
        if self._transport is None:
            raise ConnectionError("not connected")
        self.unanswered.extend(asks)
        payload = asks[0].payload if len(asks) == 1 else b"".join([ask.payload for ask in asks])
        self._transport.write(payload)

    def abandon(self) -> deque[Ask]:
        """Drop the connection; the asks that are without an answer."""
        asks, self.unanswered = self.unanswered, deque()
        self.lost = None
        if self._transport is not None:
            self._transport.abort()
        return asks

    def close(self) -> None:
        """Close the connection; whoever waits learns that it is lost."""
        if self._transport is not None:
            self._transport.close()

    async def wait_closed(self) -> None:
        """Wait for the transport: over TLS for the server's goodbye too, and that not for long."""
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + _GOODBYE_S
        while self._transport is not None:
            if loop.time() > give_up_s:
                self._transport.abort()
                give_up_s = float("inf")
            await asyncio.sleep(_LOOK_S)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of the protocol."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Part of the protocol."""
        self._transport = None
        asks, self.unanswered = self.unanswered, deque()
        lost, self.lost = self.lost, None
        reason = error or ConnectionResetError("the server closed the connection")
        if lost is not None:
            lost(asks, reason)
            return
        for ask in asks:
            ask.fail(reason)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Part of the protocol: where to put what comes."""
        if len(self._buffer) - self._end < _LEAST_ROOM:
            self._make_room()
        return self._view[self._end :]

    def buffer_updated(self, count: int) -> None:
        """Part of the protocol: so many bytes have come."""
        self._end += count
        unanswered = self.unanswered
        while unanswered:
            ask = unanswered[0]
            self._seen, ask.left = skip_answers(self._buffer, self._seen, self._end, ask.left)
            if ask.left:
                break
            unanswered.popleft()
            begin, self._begin = self._begin, self._seen
            try:
                ask.take(self._buffer, begin, self._seen)
            except Exception as error:  # one ask's trouble is not the next one's
                log.exception("an answer of the store cannot be taken")
                ask.fail(error)
        if self._begin == self._end:
            self._begin = self._seen = self._end = 0

    def _make_room(self) -> None:
        held = self._buffer[self._begin : self._end]
        size = len(self._buffer)
        while size - len(held) < size // 2 or size - len(held) < _LEAST_ROOM:
            size *= 2
        # Not in place: whoever asked may hold views of the old one.
        fresh = np.empty(size, np.uint8)
        fresh[: len(held)] = held
        self._buffer, self._view = fresh, memoryview(fresh.data)
        self._seen -= self._begin
        self._end -= self._begin
        self._begin = 0


def encode_command(*parts: bytes) -> bytes:
    """A command as it goes over the wire.

    >>> encode_command(b"PING")
    b'*1\\r\\n$4\\r\\nPING\\r\\n'
    """
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts)


def parse_answers(raw: bytes, count: int) -> list[Any]:
    """Answers as Python objects; errors among them are `hiredis.ReplyError` objects."""
    reader = hiredis.Reader()
    reader.feed(raw)
    return [reader.gets() for _ in range(count)]


def encode_answer(answer: object) -> bytes:
    """An answer as a server would write it: bytes, None, a list of these, or an error.

    >>> encode_answer([b"a", None])
    b'*2\\r\\n$1\\r\\na\\r\\n$-1\\r\\n'
    """
    if isinstance(answer, bytes):
        return b"$%d\r\n%b\r\n" % (len(answer), answer)
    if answer is None:
        return b"$-1\r\n"
    if isinstance(answer, list | tuple):
        return b"*%d\r\n" % len(answer) + b"".join(map(encode_answer, answer))
    return b"-%b\r\n" % type(answer).__name__.encode()
