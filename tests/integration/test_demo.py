"""The main job as people run it, on small numbers: `daima demo` and `daima up`, end to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

# One stack at a time: two of them on two cores only wait for each other.
pytestmark = pytest.mark.xdist_group("stack")
SMALL = ("--customers", "3000", "--days", "2")


def processes_of(home: Path) -> list[str]:
    """Command lines of the processes whose environment names this home."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        try:
            environ = process.environ()
        except (psutil.Error, OSError):
            continue
        if environ.get("DAIMA_HOME") == str(home) and process.pid != os.getpid():
            found.append(f"{process.pid} {process.info['cmdline']}")
    return found


def logs_of(home: Path) -> str:
    """The ends of all logs, for the message of a failed test."""
    logs = sorted((home / "logs").glob("*.log"))
    return "\n".join(f"== {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in logs)


@pytest.mark.timeout(480)
def test_the_demo_prints_what_it_did_and_leaves_nothing_running(tmp_path: Path) -> None:
    home = tmp_path / "home"
    # As big as people see it: embeddings of a tenth of it would not beat their baseline.
    done = subprocess.run(
        [sys.executable, "-m", "infra.cli", "demo", "--home", str(home)],
        check=False,
        capture_output=True,
        text=True,
        timeout=420,
    )
    assert done.returncode == 0, done.stderr + logs_of(home)
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["events"] > 250_000
    assert result["events_per_s"] > 0
    assert result["customers_online"] == 20_000
    embedding, model = result["models"]
    assert (model["name"], model["version"], model["metric"]) == ("session_duration", "1", "rmse")
    assert 0 < model["value"] < 3
    assert (embedding["name"], embedding["metric"]) == ("customer_embedding", "log_loss")
    assert 0 < embedding["value"] < 2.4
    prediction = result["prediction"]
    assert prediction["model"] == "session_duration"
    assert prediction["value"] > 0
    # Batch and stream features of a customer who is active now.
    assert prediction["features_present"] > 40
    similar = result["similar"]
    assert similar["embedding_version"] == 1
    near = [row["similarity"] for row in similar["similar"]]
    assert len(near) == 10
    assert near == sorted(near, reverse=True)
    assert all(row["segment"] in {"brief", "usual", "long"} for row in similar["similar"])
    # Nobody told the encoders about personas.
    assert similar["same_persona"] > similar["same_persona_by_chance"] > 0.1
    assert result["map"] == str(home / "customers.png")
    assert (home / "customers.png").read_bytes().startswith(b"\x89PNG")
    assert "nearest to" in done.stdout
    assert 0 < result["seconds"] < 420
    assert "Streaming into both stores" in done.stderr
    assert processes_of(home) == []
    assert not (home / "stack.json").exists()


@contextmanager
def up(home: Path, output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`daima up`, killed at the end if it still runs."""
    command = [sys.executable, "-m", "infra.cli", "up", "--home", str(home), *SMALL]
    with output.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for_text(process: subprocess.Popen[bytes], output: Path, text: str) -> str:
    """What it has printed once that contains a text; fails when it ends or takes too long."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        printed = output.read_text(errors="replace")
        if text in printed:
            return printed
        time.sleep(0.2)
    raise AssertionError(f"no {text!r} in: {output.read_text(errors='replace')}")


def test_up_serves_every_page_and_ends_cleanly_on_ctrl_c(tmp_path: Path) -> None:
    home, output = tmp_path / "home", tmp_path / "output"
    with up(home, output) as process:
        wait_for_text(process, output, "session_duration v1 of")
        status = subprocess.run(
            [sys.executable, "-m", "infra.cli", "status", "--home", str(home), "--json"],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert status.returncode == 0, status.stdout + status.stderr
        parts = json.loads(status.stdout.splitlines()[-1])["parts"]
        assert {part["name"] for part in parts} >= {"Prefect", "MLflow", "Feast UI"}
        # Live logins and payments are scored as they come, in a process with a log of its own.
        log = home / "logs" / "score-stream.log"
        wait_for_text(process, log, "scoring session_duration for events of valkey")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert "everything has ended" in output.read_text()
    assert processes_of(home) == []


def test_a_killed_up_leaves_nothing_running(tmp_path: Path) -> None:
    home, output = tmp_path / "home", tmp_path / "output"
    with up(home, output) as process:
        # The servers have been started by then.
        wait_for_text(process, output, "Publishing the history")
        assert len(processes_of(home)) > 3
        process.send_signal(signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 30
    while processes_of(home) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes_of(home) == []
