"""A server that answers a kind of command only once it has had as many as were announced.

Whoever waits for an answer before sending the next command waits for ever: what gets its answers
has sent all in one round trip.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

import hiredis


class CountingServer:
    """Understands what clients say on connecting, and the one command that is held back.

    Args:
        command: its name.
        held: how many to wait for; then all are answered.
        answer: the answer to each, as sent.
    """

    def __init__(self, command: bytes, held: int, answer: bytes) -> None:
        self.seen: list[list[bytes]] = []
        self._command, self._held, self._answer = command, held, answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop, and end every connection."""
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        reader = hiredis.Reader()
        waiting = 0
        with contextlib.suppress(OSError):
            while data := connection.recv(1 << 20):
                reader.feed(data)
                while (command := reader.gets()) is not False:
                    waiting += self._take(connection, command)
                if waiting >= self._held:
                    connection.sendall(self._answer * waiting)
                    waiting = 0

    def _take(self, connection: socket.socket, command: Any) -> int:
        if command[0] != self._command:
            connection.sendall(b"+OK\r\n")
            return 0
        self.seen.append(command)
        return 1
