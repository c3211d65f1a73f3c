"""Start and stop the servers of the local stack, so that none outlives its owner."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from feature_repo.contracts.errors import DaimaError

LOOPBACK = "127.0.0.1"
_GUARD = Path(__file__).with_name("guard.py")
_POLL_S = 0.05
_TAIL_LINES = 25


class ProcessError(DaimaError):
    """A server or a command that the stack started did not do its work; shows its log's end."""


class Child:
    """One child process under a guard (`infra/guard.py`), with its output in a log file.

    Args:
        name: what people call it, such as `mlflow`.
        command: program and arguments.
        log: file that takes its output (appended).
        environ: the whole environment of the child.
        ready: URL that answers below 400 once the server works, or `host:port` that answers a
            Redis PING; None for a command that just runs.
        grace: time from SIGTERM to SIGKILL when stopping.

    Raises:
        ProcessError: from `wait_ready` and `wait_done`.

    Trap: `pid` is the guard's; the server itself is its only child.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environ: Mapping[str, str],
        cwd: Path | None = None,
        ready: str | None = None,
        grace: timedelta = timedelta(seconds=8),
    ) -> None:
        self.name = name
        self.log = log
        self.ready = ready
        self._grace_s = grace.total_seconds()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._log_start = output.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_GUARD), str(self._grace_s), *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environ),
                cwd=cwd,
                start_new_session=True,  # a terminal's Ctrl-C is for the owner alone
            )

    @property
    def pid(self) -> int:
        """Process id of the guard."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the command still runs."""
        return self._process.poll() is None

    def tail(self, lines: int = _TAIL_LINES) -> str:
        """The last lines that this run wrote to its log."""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            text = file.read().decode(errors="replace")
        return "\n".join(text.rstrip().splitlines()[-lines:])

    def wait_ready(self, timeout: timedelta = timedelta(seconds=90)) -> None:
        """Return once the server answers.

        Raises:
            ProcessError: it ended before, or did not answer in time.
        """
        if self.ready is None:
            raise ValueError(f"{self.name} has no address to wait for")
        deadline = time.monotonic() + timeout.total_seconds()
        while not (answers(self.ready) and self._listens(port_of(self.ready))):
            if not self.running:
                raise self._failure(f"ended with exit code {self._process.returncode}")
            if time.monotonic() > deadline:
                raise self._failure(f"did not answer at {self.ready} within {timeout}")
            time.sleep(_POLL_S)

    def wait_done(self, timeout: timedelta = timedelta(minutes=10)) -> None:
        """Return once the command ended well.

        Raises:
            ProcessError: it ended with an error, or not in time (it is stopped then).
        """
        try:
            code = self._process.wait(timeout.total_seconds())
        except subprocess.TimeoutExpired:
            self.stop()
            raise self._failure(f"took longer than {timeout}") from None
        self._close_stdin()
        if code != 0:
            raise self._failure(f"ended with exit code {code}")

    def request_stop(self) -> None:
        """Order the end without waiting for it (several children then end side by side)."""
        self._close_stdin()

    def stop(self) -> None:
        """End the command and all that it started: SIGTERM, `grace`, SIGKILL. Repeatable."""
        self.request_stop()
        try:
            self._process.wait(self._grace_s + 5)
        except subprocess.TimeoutExpired:  # the guard itself is stuck (machine suspended?)
            self._process.kill()
            self._process.wait()

    def _listens(self, port: int) -> bool:
        """Whether it is this child that listens on a port, not somebody who came first."""
        try:
            return any(
                connection.laddr.port == port and connection.status == psutil.CONN_LISTEN
                for process in psutil.Process(self.pid).children(recursive=True)
                for connection in process.net_connections("tcp")
            )
        except psutil.AccessDenied:
            return True  # a system that does not tell
        except psutil.Error:
            return False  # it has just ended

    def _close_stdin(self) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()

    def _failure(self, what: str) -> ProcessError:
        return ProcessError(f"{self.name} {what}", action=f"see {self.log}\n{self.tail()}")


def answers(address: str, timeout_s: float = 2.0) -> bool:
    """Whether a server answers: a URL with a status below 400, or `host:port` with a PONG.

    Asks directly, whatever proxy the environment names.
    """
    try:
        if "://" in address:
            url = urlsplit(address)
            connection = http.client.HTTPConnection(
                url.hostname or LOOPBACK, port_of(address), timeout=timeout_s
            )
            try:
                connection.request("GET", url.path or "/")
                return connection.getresponse().status < 400
            finally:
                connection.close()
        host = address.rpartition(":")[0]
        with socket.create_connection((host, port_of(address)), timeout_s) as conversation:
            conversation.sendall(b"PING\r\n")
            return conversation.recv(16).startswith(b"+PONG")
    except (OSError, http.client.HTTPException):
        return False


def port_of(address: str) -> int:
    """The port in a URL or in `host:port`.

    >>> port_of("http://127.0.0.1:5000/health"), port_of("127.0.0.1:6379")
    (5000, 6379)
    """
    if "://" in address:
        return urlsplit(address).port or 80
    return int(address.rpartition(":")[2])


def is_free(port: int) -> bool:
    """Whether a loopback port can be bound now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port(preferred: int | None = None) -> int:
    """A loopback port that nothing holds now: the preferred one where it is free.

    Drawn below the ranges from which systems number outgoing connections (Linux from 32768,
    macOS from 49152): a port that the system itself proposes could be taken by any connection in
    the seconds until a slow server binds it.

    Raises:
        ProcessError: not one of many tries was free.
    """
    if preferred is not None and is_free(preferred):
        return preferred
    draw = random.SystemRandom()
    for _ in range(200):
        port = draw.randrange(20_000, 32_000)
        if is_free(port):
            return port
    raise ProcessError("port", expected="a free loopback port in 20000..31999", action="free some")


def is_alive(pid: int) -> bool:
    """Whether a process with this id exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
