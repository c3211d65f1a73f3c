"""HTTP for the hot routes, past ASGI: uvicorn's own protocol, with a shorter way for two of them.

Measured, half of what an ASGI request costs is making its scope, its messages and its response
out of parts, and taking them apart again. The two hot routes go from the parser to the service and
from its bytes to the socket; parsing, pipelining, keep-alive and shutdown stay uvicorn's, as does
every other request, and the guards are the same (`Edge.hot`).
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.deadlines import HEADER
from serving.messages import MAX_BODY_BYTES

if TYPE_CHECKING:
    from serving.edge import Edge

_PREDICT = b"/v1/predict/"
_FEATURES = b"/v1/features"
# What else a URL may hold (escapes, a query, a fragment) is uvicorn's to understand.
_STRANGE = frozenset(b"%?#/;")
_LINES = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode())
    for status in HTTPStatus
}


class _NoEvent:
    """Stands for the event that wakes an ASGI application; nobody waits for this one."""

    @staticmethod
    def set() -> None:
        return None


class HotCycle:
    """A hot request in hand, as far as uvicorn's protocol looks at it.

    Attributes:
        model: of the path; None: features are asked for.
        body: so far.
        deadline, authorization: headers.
    """

    __slots__ = (
        "authorization",
        "body",
        "deadline",
        "disconnected",
        "keep_alive",
        "model",
        "more_body",
        "response_complete",
    )
    message_event = _NoEvent()

    def __init__(
        self, model: str | None, headers: list[tuple[bytes, bytes]], keep_alive: bool
    ) -> None:
        self.model = model
        self.body: bytes = b""
        self.more_body = True
        self.keep_alive = keep_alive
        self.response_complete = self.disconnected = False
        self.deadline: bytes | None = None
        self.authorization: bytes | None = None
        for name, value in headers:
            if name == HEADER:
                self.deadline = value
            elif name == b"authorization":
                self.authorization = value


class HotProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a short way for the hot routes.

    Args:
        edge: answers them.
        options: uvicorn's.
    """

    def __init__(self, edge: Edge, **options: Any) -> None:
        super().__init__(**options)
        self._edge = edge
        self._hot: HotCycle | None = None
        self._idle_since_s = 0.0
        self._defaults = b"".join(
            b"%b: %b\r\n" % pair for pair in self.server_state.default_headers
        )

    def on_message_begin(self) -> None:
        """Part of the parser's protocol. The scope is made once it is known to be needed."""
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        """Part of the parser's protocol."""
        self._hot = hot = self._hot_cycle()
        if hot is not None:
            self.cycle = hot  # type: ignore[assignment]
            return
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()

    def _hot_cycle(self) -> HotCycle | None:
        """The request if it is hot, plain and alone on its connection."""
        url = self.url
        if url.startswith(_PREDICT):
            name = url[len(_PREDICT) :]
            if not name or not _STRANGE.isdisjoint(name):
                return None
            model: str | None = name.decode("ascii", "replace")
        elif url == _FEATURES:
            model = None
        else:
            return None
        parser, former = self.parser, self.cycle
        if (
            parser.get_method() != b"POST"
            or parser.get_http_version() != "1.1"
            or self.expect_100_continue
            or parser.should_upgrade()
            or (former is not None and not former.response_complete)
            or self.root_path
        ):
            return None
        return HotCycle(model, self.headers, keep_alive=parser.should_keep_alive())

    def on_body(self, body: bytes) -> None:
        """Part of the parser's protocol."""
        hot = self._hot
        if hot is None:
            super().on_body(body)
        elif len(hot.body) <= MAX_BODY_BYTES:  # what comes after that is read and dropped
            hot.body = hot.body + body if hot.body else body

    def on_message_complete(self) -> None:
        """Part of the parser's protocol."""
        hot = self._hot
        if hot is None:
            super().on_message_complete()
            return
        self._hot = None
        task = self.loop.create_task(self._answer(hot))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _answer(self, hot: HotCycle) -> None:
        """Answer a request; what raises here is a defect, and ends the connection."""
        try:
            status, body, headers = await self._edge.hot(
                hot.model, hot.body, hot.authorization, hot.deadline
            )
        except BaseException:
            self.transport.close()
            raise
        if self.flow.write_paused and not hot.disconnected:
            await self.flow.drain()
        hot.response_complete = True
        if hot.disconnected:
            return
        parts = [_LINES[status], self._defaults]
        for name, value in headers:
            if name == b"connection":
                hot.keep_alive = False
            else:
                parts.append(b"%b: %b\r\n" % (name, value))
        parts.append(b"\r\n" if hot.keep_alive else b"connection: close\r\n\r\n")
        parts.append(body)
        self.transport.write(b"".join(parts))
        if not hot.keep_alive:
            self.transport.close()
        self.on_response_complete()

    # uvicorn sets and cancels a timer for each request; this one looks whether it was idle.

    def on_response_complete(self) -> None:
        """A response is sent: go on with a pipelined request, or wait for the next one."""
        self._idle_since_s = self.loop.time()
        if self.pipeline or self.timeout_keep_alive_task is None:
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Part of the protocol."""
        timer, self.timeout_keep_alive_task = self.timeout_keep_alive_task, None
        super().data_received(data)  # which cancels what it finds there
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = timer
        elif timer is not None:
            timer.cancel()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has been idle for long enough; else look again later."""
        self.timeout_keep_alive_task = None
        if self.transport.is_closing():
            return
        busy = self.cycle is not None and not self.cycle.response_complete
        left_s = float(self.timeout_keep_alive)
        if not busy:
            left_s -= self.loop.time() - self._idle_since_s
        if left_s <= 0:
            self.transport.close()
            return
        self.timeout_keep_alive_task = self.loop.call_later(left_s, self.timeout_keep_alive_handler)
