"""A load generator on raw sockets: closed loop (N connections) and open loop (a fixed rate).

    python -m tests.benchmarks.serving_load PORT FILE

FILE is JSON: `{"path": ..., "bodies": [...], "connections": N, "requests": N, "rate_per_s": R}`;
without a rate the loop is closed. Its last line is one JSON object. In an open loop a request's
time begins when it was meant to be sent, whatever held it up: the generator, too few free
connections, the server (no coordinated omission). A timer of the kernel wakes the sender to the
microsecond, so that it need not spin on a core that the store uses too.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

_CLOCK_MONOTONIC = 1
_NONBLOCK = 0o4000
_LENGTH = b"content-length: "


@dataclass
class Outcome:
    """What came of a load.

    Attributes:
        seconds: of each answered request.
        failed: answers other than 200, and connections lost.
        took_s: from the first request to the last answer.
        first_failure: the beginning of the first such answer.
        late_s: how late requests were sent, in an open loop.
    """

    seconds: list[float] = field(default_factory=list)
    failed: int = 0
    took_s: float = 0.0
    first_failure: str = ""
    late_s: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Rates and percentiles."""
        millis = np.array(self.seconds) * 1e3
        found: dict[str, Any] = {
            "requests": len(millis),
            "failed": self.failed,
            "requests_per_s": round(len(millis) / self.took_s, 1),
            "p50_ms": round(float(np.percentile(millis, 50)), 4),
            "p99_ms": round(float(np.percentile(millis, 99)), 4),
            "p999_ms": round(float(np.percentile(millis, 99.9)), 4),
            "max_ms": round(float(millis.max()), 3),
        }
        if self.late_s:
            found["sent_late_p99_ms"] = round(float(np.percentile(self.late_s, 99)) * 1e3, 4)
        if self.first_failure:
            found["first_failure"] = self.first_failure
        return found


class _Connection:
    """One keep-alive connection; one request at a time."""

    def __init__(self, port: int, epoll: select.epoll) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.number = self.socket.fileno()
        self.began_s = 0.0
        self._parts: list[bytes] = []
        self._have = 0
        self._need = -1
        epoll.register(self.number, select.EPOLLIN)

    def send(self, request: bytes, began_s: float) -> None:
        self.began_s = began_s
        self._parts, self._have, self._need = [], 0, -1
        sent = self.socket.send(request)
        while sent < len(request):  # a long body: the server reads on
            select.select([], [self.number], [])
            sent += self.socket.send(request[sent:])

    def receive(self) -> bytes | None:
        """The answer once it is whole."""
        chunk = self.socket.recv(1 << 20)
        if not chunk:
            raise ConnectionError("the server closed the connection")
        self._parts.append(chunk)
        self._have += len(chunk)
        if self._need < 0:
            head = chunk if len(self._parts) == 1 else b"".join(self._parts)
            end = head.find(b"\r\n\r\n")
            if end < 0:
                return None
            at = head.find(_LENGTH, 0, end) + len(_LENGTH)
            self._need = end + 4 + int(head[at : head.index(b"\r", at)])
        if self._have < self._need:
            return None
        return self._parts[0]


class Load:
    """Connections to a server, and the requests to send over them in turn."""

    def __init__(self, port: int, path: str, bodies: Sequence[bytes], connections: int) -> None:
        self._epoll = select.epoll()
        made = [_Connection(port, self._epoll) for _ in range(connections)]
        self._by_number = {each.number: each for each in made}
        self._free = deque(made)
        head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        self._requests = [
            f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies
        ]
        self._next = 0

    def close(self) -> None:
        """Close every connection."""
        for each in self._by_number.values():
            each.socket.close()
        self._epoll.close()

    def closed_loop(self, requests: int, until_s: float | None = None) -> Outcome:
        """Each connection sends its next request as soon as it has its answer."""
        found = Outcome()
        began_s = time.perf_counter()
        sent = 0
        while self._free and sent < requests:
            self._send(self._free.popleft(), time.perf_counter())
            sent += 1
        while found.failed + len(found.seconds) < sent:
            for number, _ in self._epoll.poll():
                connection = self._by_number[number]
                if not self._take(connection, found):
                    continue
                now_s = time.perf_counter()
                if sent < requests and (until_s is None or now_s - began_s < until_s):
                    self._send(connection, now_s)
                    sent += 1
                else:
                    self._free.append(connection)
        found.took_s = time.perf_counter() - began_s
        return found

    def open_loop(self, requests: int, rate_per_s: float) -> Outcome:
        """Requests at a fixed rate, each timed from when it was meant to be sent."""
        found = Outcome()
        timer = _Timer(1 / rate_per_s)
        self._epoll.register(timer.number, select.EPOLLIN)
        began_s = time.perf_counter() + 0.01
        due = sent = 0
        try:
            while found.failed + len(found.seconds) < requests:
                for number, _ in self._epoll.poll():
                    if number == timer.number:
                        timer.clear()
                    elif self._take(self._by_number[number], found):
                        self._free.append(self._by_number[number])
                now_s = time.perf_counter()
                due = min(requests, int((now_s - began_s) * rate_per_s) + 1)
                while sent < due and self._free:
                    meant_s = began_s + sent / rate_per_s
                    found.late_s.append(max(now_s - meant_s, 0.0))
                    self._send(self._free.popleft(), meant_s)
                    sent += 1
        finally:
            self._epoll.unregister(timer.number)
            timer.close()
        found.took_s = time.perf_counter() - began_s
        return found

    def _send(self, connection: _Connection, began_s: float) -> None:
        request = self._requests[self._next]
        self._next = (self._next + 1) % len(self._requests)
        connection.send(request, began_s)

    @staticmethod
    def _take(connection: _Connection, found: Outcome) -> bool:
        answer = connection.receive()
        if answer is None:
            return False
        if answer.startswith(b"HTTP/1.1 200"):
            found.seconds.append(time.perf_counter() - connection.began_s)
        else:
            found.failed += 1
            found.first_failure = found.first_failure or answer[:500].decode("latin-1")
        return True


class _Timer:
    """A timer of the kernel that fires again and again; epoll alone knows milliseconds only."""

    def __init__(self, every_s: float) -> None:
        class Spec(ctypes.Structure):
            _fields_ = [(name, ctypes.c_long) for name in ("is_", "ins", "vs", "vns")]

        self._libc = ctypes.CDLL(None, use_errno=True)
        self.number = self._libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK)
        every_ns = int(every_s * 1e9)
        spec = Spec(0, every_ns, 0, every_ns)
        self._libc.timerfd_settime(self.number, 0, ctypes.byref(spec), None)

    def clear(self) -> None:
        os.read(self.number, 8)

    def close(self) -> None:
        os.close(self.number)


def main(argv: Sequence[str]) -> int:
    """Load a server as the file says; print what came of it."""
    told = json.loads(Path(argv[1]).read_text())
    bodies = [body.encode() for body in told["bodies"]]
    load = Load(int(argv[0]), told["path"], bodies, told["connections"])
    rate = told.get("rate_per_s")
    load.closed_loop(told.get("warm_up", 0))
    if rate is None:
        found = load.closed_loop(told["requests"], told.get("seconds"))
    else:
        found = load.open_loop(told["requests"], rate)
    load.close()
    print(json.dumps(found.summary()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
