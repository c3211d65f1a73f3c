"""Processes of the serving benchmark, each on its core: the API, the load, the writes."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from feature_repo.contracts.settings import ROOT, Settings
from tests.benchmarks.live import pin
from tests.conftest import free_port

_READY_WITHIN_S = 180.0


@contextmanager
def on_core(core: set[int]) -> Iterator[None]:
    """What is started within runs there, for its whole life."""
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    pin(core)
    try:
        yield
    finally:
        pin(before)


def wait_for_port(
    port: int, process: subprocess.Popen[Any], log: Path, path: str = "/health"
) -> None:
    """Wait until a server answers 200 there.

    Raises:
        RuntimeError: it ends, or takes minutes; with what it said.
    """
    deadline_s = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"no server answers on {port}\n{log.read_text()[-4000:]}")


@contextmanager
def api(settings: Settings, core: set[int]) -> Iterator[tuple[int, int]]:
    """The prediction API, ready: its port and its process."""
    port = free_port()
    log = settings.home / "api.log"
    with log.open("wb") as output, on_core(core):
        process = subprocess.Popen(
            [sys.executable, "-m", "serving", "--port", str(port)],
            env={**os.environ, **settings.environment()},
            cwd=ROOT,
            stdout=output,
            stderr=output,
        )
    try:
        wait_for_port(port, process, log, "/health/ready")
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(30)


def load(settings: Settings, core: set[int], port: int, told: dict[str, Any]) -> dict[str, Any]:
    """Load a server from a process of its own; what came of it (`serving_load.Outcome`)."""
    with start_load(settings, core, port, told) as process:
        output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the load generator ended with {process.returncode}")
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


@contextmanager
def start_load(
    settings: Settings, core: set[int], port: int, told: dict[str, Any]
) -> Iterator[subprocess.Popen[str]]:
    """The same, while something else goes on."""
    file = settings.home / "load.json"
    file.write_text(json.dumps(told))
    with on_core(core):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.serving_load", str(port), str(file)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@contextmanager
def feature_writes(
    settings: Settings, core: set[int], rate_per_s: int, customers: int
) -> Iterator[dict[str, Any]]:
    """Feature writes go on within; afterwards the mapping says at which rate."""
    found: dict[str, Any] = {}
    with on_core(core):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.serving_writes", str(rate_per_s),
             str(customers)],
            env={**os.environ, **settings.environment()},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
    try:
        if process.stdout is None or not process.stdout.readline():
            raise RuntimeError("the writer does not start")
        yield found
        output, _ = process.communicate("")
        found.update(json.loads(output.splitlines()[-1]))
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def cpu_us(pid: int) -> float:
    """Processor time that a process' main thread has used, µs."""
    file = Path(f"/proc/{pid}/task/{pid}/schedstat")
    if not file.is_file():
        return float("nan")
    return int(file.read_text().split()[0]) / 1e3


def memory_mb(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
