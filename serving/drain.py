"""Ending a server without failing a request: SIGTERM drains before it closes."""

from __future__ import annotations

import asyncio
import signal
import socket
from datetime import timedelta
from time import monotonic
from types import FrameType

import uvicorn

from serving.overload import Gate

# For connections that are made already, and for requests that are on their way.
_LAST_CONNECTIONS = timedelta(milliseconds=50)
_LAST_REQUESTS = timedelta(milliseconds=300)


class DrainingServer(uvicorn.Server):
    """A server that takes its time to end.

    At SIGTERM `/health/ready` says no, so that load balancers look elsewhere, and every answer asks
    its client to close the connection; requests are still taken. After `drain` nothing new is
    accepted, what is in flight is finished, and the process ends with status 0. A second SIGTERM
    skips the wait.

    Args:
        config: uvicorn's; its `timeout_graceful_shutdown` bounds the last part.
        gate: told that the process is about to end.
        drain: how long requests are still taken.
    """

    def __init__(self, config: uvicorn.Config, gate: Gate, drain: timedelta) -> None:
        super().__init__(config)
        self._gate = gate
        self._drain_s = drain.total_seconds()
        self._close_at_s: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal has come. Ctrl-C ends at once, as in any program of a terminal."""
        already, self._gate.draining = self._gate.draining, True
        if sig != signal.SIGTERM:
            super().handle_exit(sig, frame)
        elif already:
            self.should_exit = True
        else:
            self._close_at_s = monotonic() + self._drain_s

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to close."""
        if self._close_at_s is not None and monotonic() >= self._close_at_s:
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close; uvicorn itself resets whoever waits for `accept`, or has yet to send a request."""
        for listener in sockets or []:
            listener.listen(0)  # nobody new is let in, whoever waits is
        await asyncio.sleep(_LAST_CONNECTIONS.total_seconds())
        for server in self.servers:
            server.close()
        await asyncio.sleep(_LAST_REQUESTS.total_seconds())
        await super().shutdown(sockets)
