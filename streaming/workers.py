"""Independent processes over the partitions of one log: started, watched, started again, drained.

Each owns a group of partitions and shares nothing with the others: no exchange between processes
is faster than none (docs/adr/0001). A process that dies is started again after a pause and goes on
from its checkpoints; one that keeps dying at once ends them all, with an error.

A process ends with its standard input. So none is left behind, however the one that started it
ends: the system closes the other end.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from feature_repo.contracts.errors import DaimaError, SettingsError

# What dies sooner has not got anywhere; this often in a row, and another start will not help.
QUICK_DEATH = timedelta(seconds=20)
MOST_QUICK_DEATHS = 5
DRAIN = timedelta(seconds=60)
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
_POLL_S = 0.05


class WorkerError(DaimaError):
    """A process of the stream keeps dying."""


@dataclass
class _Worker:
    number: int
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    start_at_s: float = 0.0
    quick_deaths: int = 0


def run_workers(
    commands: Sequence[Sequence[str]],
    stopped: Callable[[], bool],
    *,
    environ: Mapping[str, str] = os.environ,
    quick_death: timedelta = QUICK_DEATH,
    drain: timedelta = DRAIN,
    started: Callable[[int, int], None] = lambda worker, pid: None,
) -> int:
    """Run one process a command until `stopped()`, then drain them all.

    Args:
        commands: what to run; each ends well when its standard input ends.
        stopped: asked all the time.
        environ: of the processes.
        quick_death: a process that lived for less counts as one that got nowhere.
        drain: time to end well, once stopped.
        started: told the worker's number and process id of every start.

    Returns:
        How often a process was started again.

    Raises:
        WorkerError: one died `MOST_QUICK_DEATHS` times in a row, or did not end when it was to.
    """
    workers = [_Worker(number) for number in range(len(commands))]
    again = 0
    try:
        while not stopped():
            now_s = time.monotonic()
            for worker in workers:
                process = worker.process
                if process is None and now_s >= worker.start_at_s:
                    again += worker.started_s > 0
                    worker.process = _start(commands[worker.number], environ)
                    worker.started_s = now_s
                    started(worker.number, worker.process.pid)
                elif process is not None and process.poll() is not None:
                    _note_death(worker, now_s, quick_death)
            time.sleep(_POLL_S)
    finally:
        left = _drain(workers, drain)
    if left:
        raise WorkerError(
            "stream",
            f"processes {', '.join(map(str, left))} still running",
            f"an end within {drain}",
            "their events are read again at the next start",
        )
    return again


def _start(command: Sequence[str], environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        list(command),
        stdin=subprocess.PIPE,
        env=dict(environ),
        start_new_session=True,  # a terminal's Ctrl-C is for us; we then drain them
    )


def _note_death(worker: _Worker, now_s: float, quick_death: timedelta) -> None:
    """Plan the next start.

    Raises:
        WorkerError: there is no use in one.
    """
    process = worker.process
    worker.process = None
    quick = now_s - worker.started_s < quick_death.total_seconds()
    worker.quick_deaths = worker.quick_deaths + 1 if quick else 1
    code = None
    if process is not None:
        code = process.returncode
        _end_stdin(process)
    if worker.quick_deaths >= MOST_QUICK_DEATHS:
        raise WorkerError(
            f"process {worker.number} of the stream",
            f"ended {worker.quick_deaths} times in a row (last exit code {code})",
            "a process that keeps running",
            "see what it has printed above",
        )
    pause_s = min(_FIRST_PAUSE_S * 2 ** (worker.quick_deaths - 1), _LONGEST_PAUSE_S)
    worker.start_at_s = now_s + pause_s
    print(
        f"daima: process {worker.number} of the stream ended (exit code {code});"
        f" it is started again in {pause_s:g} s",
        file=sys.stderr,
        flush=True,
    )


def _drain(workers: Sequence[_Worker], drain: timedelta) -> list[int]:
    """End all processes; returns the ids of those that had to be killed."""
    running = [worker.process for worker in workers if worker.process is not None]
    for process in running:
        _end_stdin(process)
    deadline_s = time.monotonic() + drain.total_seconds()
    killed = []
    for process in running:
        try:
            process.wait(max(0.0, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed.append(process.pid)
    return killed


def _end_stdin(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def worker_commands(count: int, shards: int, *arguments: str) -> list[list[str]]:
    """The commands of `count` processes that share a log of `shards` partitions an entity.

    Raises:
        SettingsError: there are more processes than partitions.
    """
    if not 1 <= count <= shards:
        raise SettingsError(
            "workers", count, f"1..{shards}, as the log has {shards} partitions", "choose fewer"
        )
    return [
        [
            sys.executable, "-m", "streaming", "--worker", f"{number}/{count}", "--while-stdin",
            *arguments,
        ]
        for number in range(count)
    ]  # fmt: skip


def until_stdin_ends(stopped: Callable[[], bool]) -> Callable[[], bool]:
    """`stopped`, or true once this process's standard input has ended."""
    ended = threading.Event()

    def wait() -> None:
        while os.read(0, 4096):
            pass
        ended.set()

    threading.Thread(target=wait, name="stdin", daemon=True).start()
    return lambda: stopped() or ended.is_set()
