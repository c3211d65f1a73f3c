"""Runs one command and takes it down with everything it started as soon as its owner is gone.

A script of its own, started as `python -I -S guard.py GRACE_S COMMAND...` by `infra.processes`, so
it imports only the standard library and starts in some 20 ms. The owner holds the other end of
the guard's standard input: closing it (on purpose, or by dying in any way, `kill -9` included) is
the order to stop. Then: SIGTERM to the command's process group, `GRACE_S` seconds, SIGKILL to
whatever is left, also outside the group where the system can tell (Linux).

Trap: a "parent death signal" alone would not do. It reaches the direct child only (MLflow serves
from a grandchild), it fires when the *thread* that started the child ends, and macOS has none.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Iterator

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LINUX = sys.platform == "linux"


def _prctl(option: int, value: int) -> None:
    if _LINUX:
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _start(command: list[str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setpgid(0, 0)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # for the case that the guard itself is killed
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.execvp(command[0], command)  # noqa: S606
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr, flush=True)
    os._exit(127)


def _descendants() -> Iterator[int]:
    """Every process under this one; orphans count too, since the guard is their subreaper."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue  # ended in between
        parents.setdefault(int(fields[1]), []).append(int(entry))
    todo = parents.get(os.getpid(), [])
    while todo:
        pid = todo.pop()
        yield pid
        todo.extend(parents.get(pid, []))


def _reap(main: int, code: int | None) -> tuple[int | None, bool]:
    """Collect ended children: the command's exit code (None: it runs), and whether any is left."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return code, True
            if pid == main:
                code = os.waitstatus_to_exitcode(status)
    return code, False


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
    if _LINUX:
        for pid in _descendants():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def main(grace_s: float, command: list[str]) -> int:
    """Run `command` until it ends or the owner goes; returns the exit code to pass on."""
    owner = os.getppid()
    asked_to_stop = False

    def ask_to_stop(*_: object) -> None:
        nonlocal asked_to_stop
        asked_to_stop = True

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the owner's to handle
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, ask_to_stop)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)

    child = _start(command)
    code: int | None = None
    while not asked_to_stop:
        ready, _, _ = select.select([0, wake_read], [], [], 1.0)
        if wake_read in ready:
            os.read(wake_read, 512)
        code, _ = _reap(child, code)
        if code is not None:
            break
        if (0 in ready and not os.read(0, 512)) or os.getppid() != owner:
            asked_to_stop = True

    _signal(child, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    left = True
    while left and time.monotonic() < deadline:
        code, left = _reap(child, code)
        if left:
            time.sleep(0.02)
    while left:
        _signal(child, signal.SIGKILL)
        time.sleep(0.02)
        code, left = _reap(child, code)
    if code is None:
        return 1
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
