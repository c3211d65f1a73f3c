"""Children of the stack: they answer, fail clearly, and never outlive their owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from infra.processes import Child, ProcessError, answers, free_port, is_alive

SERVE = (
    "import http.server, sys; http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), "
    "http.server.SimpleHTTPRequestHandler).serve_forever()"
)
# Starts a grandchild, writes both ids, and both ignore SIGTERM.
FAMILY = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
new = sys.platform == "linux"  # elsewhere only the process group can be found again
grandchild = subprocess.Popen([sys.executable, "-c", code], start_new_session=new)
with open(sys.argv[1] + ".new", "w") as file:
    file.write(f"{os.getpid()} {grandchild.pid}")
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(60)
"""


def until(true: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    """Whether it becomes true in time."""
    deadline = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def gone(pid: int) -> bool:
    """Whether a process has ended (one waiting to be reaped has)."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def python(name: str, folder: Path, *arguments: str, **options: object) -> Child:
    return Child(
        name,
        [sys.executable, "-c", *arguments],
        log=folder / "logs" / f"{name}.log",
        environ=os.environ,
        **options,  # type: ignore[arg-type]
    )


def test_a_server_answers_until_it_is_stopped(tmp_path: Path) -> None:
    port = free_port()
    child = python("web", tmp_path, SERVE, str(port), ready=f"http://127.0.0.1:{port}/")
    child.wait_ready()
    assert child.running
    child.stop()
    assert not child.running
    assert not answers(f"http://127.0.0.1:{port}/")
    child.stop()  # repeatable


def test_a_server_that_ends_early_shows_the_end_of_its_own_log(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "bad.log"
    log.parent.mkdir()
    log.write_text("line of an earlier run\n")
    child = python(
        "bad", tmp_path, "print('cannot open the database'); raise SystemExit(3)",
        ready="http://127.0.0.1:1/",
    )  # fmt: skip
    with pytest.raises(ProcessError, match="exit code 3") as caught:
        child.wait_ready()
    message = str(caught.value)
    assert "cannot open the database" in message
    assert str(log) in message
    assert "earlier run" not in message
    child.stop()


def test_a_server_that_does_not_answer_in_time_is_an_error(tmp_path: Path) -> None:
    child = python("mute", tmp_path, "import time; time.sleep(60)", ready="127.0.0.1:1")
    with pytest.raises(ProcessError, match=r"did not answer at 127\.0\.0\.1:1"):
        child.wait_ready(timedelta(milliseconds=200))
    child.stop()


def test_somebody_elses_answer_on_the_port_does_not_count(tmp_path: Path) -> None:
    port = free_port()
    ready = f"http://127.0.0.1:{port}/"
    first = python("first", tmp_path, SERVE, str(port), ready=ready)
    first.wait_ready()
    second = python(
        "second", tmp_path, f"import time; time.sleep(0.5); {SERVE}", str(port), ready=ready
    )
    try:
        with pytest.raises(ProcessError, match=r"(?s)second ended with exit code 1.*in use"):
            second.wait_ready()
    finally:
        second.stop()
        first.stop()


def test_a_missing_program_is_an_error_that_names_it(tmp_path: Path) -> None:
    child = Child("absent", ["no-such-program"], log=tmp_path / "absent.log", environ=os.environ)
    with pytest.raises(ProcessError, match="no-such-program: No such file"):
        child.wait_done()


def test_a_command_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    child = python("slow", tmp_path, "import time; time.sleep(60)")
    with pytest.raises(ProcessError, match="took longer than"):
        child.wait_done(timedelta(milliseconds=200))
    assert not child.running


def test_a_command_that_ends_well_is_waited_for(tmp_path: Path) -> None:
    child = python("fine", tmp_path, "print('done')")
    child.wait_done()
    assert child.tail() == "done"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux finds processes of other groups")
def test_stopping_ends_grandchildren_that_ignore_sigterm(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    child = python("family", tmp_path, FAMILY, str(pids), grace=timedelta(milliseconds=200))
    assert until(pids.exists)
    family = [int(pid) for pid in pids.read_text().split()]
    assert not any(gone(pid) for pid in family)
    child.stop()
    assert all(gone(pid) for pid in family)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_children_die_with_their_owner(tmp_path: Path, number: signal.Signals) -> None:
    pids = tmp_path / "pids"
    owner_code = (
        "import os, sys, time\nfrom datetime import timedelta\nfrom pathlib import Path\n"
        "from infra.processes import Child\n"
        f"family = Child('family', [sys.executable, '-c', {FAMILY!r}, {str(pids)!r}],\n"
        f"    log=Path({str(tmp_path / 'log')!r}), environ=os.environ,\n"
        "    grace=timedelta(milliseconds=200))\n"
        "time.sleep(60)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", owner_code])
    try:
        assert until(pids.exists)
        family = [int(pid) for pid in pids.read_text().split()]
        guard = psutil.Process(family[0]).ppid()
        assert is_alive(guard)
    finally:
        owner.send_signal(number)
        owner.wait()
    assert until(lambda: all(gone(pid) for pid in (*family, guard)))


def test_a_killed_guard_takes_its_child_along(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("needs Linux's parent death signal")
    pids = tmp_path / "pids"
    child = python("family", tmp_path, FAMILY, str(pids))
    assert until(pids.exists)
    server, grandchild = (int(pid) for pid in pids.read_text().split())
    os.kill(child.pid, signal.SIGKILL)
    try:
        assert until(lambda: gone(server))
    finally:
        os.kill(grandchild, signal.SIGKILL)
        child.stop()


def test_free_ports_lie_below_those_of_outgoing_connections() -> None:
    assert all(20_000 <= free_port() < 32_000 for _ in range(50))


def test_a_preferred_port_is_taken_only_while_it_is_free(tmp_path: Path) -> None:
    port = free_port()
    assert free_port(port) == port
    child = python("web", tmp_path, SERVE, str(port), ready=f"http://127.0.0.1:{port}/")
    child.wait_ready()
    try:
        assert free_port(port) != port
    finally:
        child.stop()
