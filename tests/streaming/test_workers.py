"""Processes that are watched: started again, given up, drained, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from feature_repo.contracts.errors import SettingsError
from streaming.run import Share
from streaming.workers import MOST_QUICK_DEATHS, WorkerError, run_workers, worker_commands

# Works until its standard input ends, then takes a moment to write what it has.
WORKER = """
import sys, time, pathlib
sys.stdin.read()
time.sleep(0.1)
pathlib.Path(sys.argv[1]).write_text("drained")
"""
DEAF = "import time; time.sleep(60)"


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code, *arguments]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(what: Callable[[], bool], seconds: float = 20) -> None:
    deadline_s = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


class Watched:
    """`run_workers` in a thread, and the ids of what it has started."""

    def __init__(self, commands: list[list[str]]) -> None:
        self.pids: list[int] = []
        self.again = -1
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(commands,))
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self, commands: list[list[str]]) -> None:
        self.again = run_workers(
            commands, self._stop.is_set, started=lambda worker, pid: self.pids.append(pid)
        )


def test_all_are_drained_at_the_end(tmp_path: Path) -> None:
    files = [tmp_path / str(number) for number in range(3)]
    watched = Watched([python(WORKER, str(file)) for file in files])
    wait_for(lambda: len(watched.pids) == 3)
    watched.stop()
    assert [file.read_text() for file in files] == ["drained"] * 3
    assert watched.again == 0
    assert not any(map(alive, watched.pids))


def test_one_that_dies_is_started_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    watched = Watched([python(WORKER, str(tmp_path / str(number))) for number in range(2)])
    wait_for(lambda: len(watched.pids) == 2)
    os.kill(watched.pids[0], signal.SIGKILL)
    wait_for(lambda: len(watched.pids) == 3)
    watched.stop()
    assert watched.again == 1
    assert "process 0 of the stream ended (exit code -9)" in capfd.readouterr().err
    assert not any(map(alive, watched.pids))


def test_one_that_keeps_dying_ends_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streaming.workers._FIRST_PAUSE_S", 0.01)
    pids: list[int] = []
    commands = [python(WORKER, str(tmp_path / "good")), python("raise SystemExit(2)")]
    with pytest.raises(WorkerError, match=r"process 1 .*5 times in a row \(last exit code 2\)"):
        run_workers(commands, lambda: False, started=lambda worker, pid: pids.append(pid))
    assert len(pids) == 1 + MOST_QUICK_DEATHS
    assert (tmp_path / "good").read_text() == "drained"
    assert not any(map(alive, pids))


def test_one_that_lives_for_a_while_may_die_as_often_as_it_likes() -> None:
    deaths: list[int] = []
    run_workers(
        [python("")],
        lambda: len(deaths) > MOST_QUICK_DEATHS,
        quick_death=timedelta(0),
        started=lambda worker, pid: deaths.append(pid),
    )
    assert len(deaths) > MOST_QUICK_DEATHS
    assert not any(map(alive, deaths))


def test_one_that_does_not_end_is_ended() -> None:
    pids: list[int] = []
    with pytest.raises(WorkerError, match="still running"):
        run_workers(
            [python(DEAF)],
            lambda: bool(pids),
            drain=timedelta(seconds=0.3),
            started=lambda worker, pid: pids.append(pid),
        )
    assert not any(map(alive, pids))


def test_none_is_left_behind_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    code = (
        "from streaming.workers import run_workers; import sys\n"
        "run_workers([[sys.executable, '-I', '-S', '-c', sys.argv[1], sys.argv[2]]],"
        " lambda: False, started=lambda worker, pid: print(pid, flush=True))"
    )
    file = tmp_path / "left"
    with subprocess.Popen(
        [sys.executable, "-c", code, WORKER, str(file)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    ) as supervisor:
        assert supervisor.stdout is not None
        pid = int(supervisor.stdout.readline())
        supervisor.kill()
    wait_for(lambda: not alive(pid))
    assert file.read_text() == "drained"


def test_partitions_are_shared_out_without_overlap() -> None:
    for workers in (1, 3, 8):
        shares = [Share(number, workers).of(8) for number in range(workers)]
        assert sorted(shard for share in shares for shard in share) == list(range(8))


@pytest.mark.parametrize("count", [0, 9])
def test_more_processes_than_partitions_are_refused(count: int) -> None:
    with pytest.raises(SettingsError, match=r"1\.\.8"):
        worker_commands(count, 8)
