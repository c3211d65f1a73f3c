"""The `daima` command: help, errors, and the commands that need no server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from feature_repo.contracts.events import EVENT_SCHEMA
from infra.cli import app, main

COMMANDS = (
    *("demo", "up", "simulate", "stream", "replay", "produce", "backfill", "rebuild", "compact"),
    *("promote", "split", "rollback"),
    *("predict", "similar", "status", "doctor", "env", "forget", "score-stream", "embed-stream"),
)


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """Runs commands whose home is empty and whose servers do not exist (port 1)."""
    monkeypatch.setenv("DAIMA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAIMA_REDIS", "127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    monkeypatch.setenv("DAIMA_API", "http://127.0.0.1:1")
    return CliRunner()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_helps_with_an_example(runner: CliRunner, command: str) -> None:
    result = runner.invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"daima {command}" in result.stdout.split("Example:")[1]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom infra.cli import app\n"
        "heavy = {'feast', 'mlflow', 'prefect', 'polars', 'pyarrow', 'numpy', 'bytewax'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_our_errors_are_one_message_and_exit_code_2(runner: CliRunner) -> None:
    result = runner.invoke(app, ["stream", "events.parquet", "--workers", "2"])
    assert result.exit_code == 2
    assert result.stderr == (
        "daima: EVENTS is 'events.parquet': "
        "expected none with --workers or --restart; leave it out\n"
    )
    assert result.stdout == ""


def test_a_defects_traceback_shows_no_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        address = "ana:topsecret"
        raise RuntimeError(f"no answer from http://{address}@h:1")

    monkeypatch.setattr("infra.cli.app", broken)
    monkeypatch.setattr("infra.cli.signal.signal", lambda *_: None)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    told = capsys.readouterr().err
    assert told.startswith("Traceback")
    assert "http://***@h:1" in told
    assert "topsecret@" not in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stream", "absent.parquet"], "absent.parquet"),
        (["stream"], "127.0.0.1:1"),
        (["replay", "absent.csv", "--mapping", "absent.yaml"], "absent.yaml"),
        (["predict", "session_duration", "c1"], "start it: daima up"),
        (["simulate", "--out", "x", "--world", "absent.yaml"], "absent.yaml"),
    ],
)
def test_what_is_missing_is_named(runner: CliRunner, arguments: list[str], message: str) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_status_marks_what_is_down_and_exits_1(runner: CliRunner, tmp_path: Path) -> None:
    result = runner.invoke(app, ["status", "--json"])
    assert result.exit_code == 1
    status = json.loads(result.stdout.splitlines()[-1])
    assert status["up"] is False
    down = {part["name"]: part["what"] for part in status["parts"] if not part["up"]}
    assert set(down) == {"online store", "Feast registry", "MLflow", "Prefect", "prediction API"}
    assert down["MLflow"] == "start it: daima up"


def test_simulate_writes_events_truth_and_daily_tables(runner: CliRunner, tmp_path: Path) -> None:
    out = tmp_path / "simulated"
    arguments = ["--customers", "200", "--days", "2", "--start", "2026-01-05", "--seed", "3"]
    result = runner.invoke(app, ["simulate", *arguments, "--out", str(out), "--json"])
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout.splitlines()[-1])
    events = pl.read_parquet(out / "events.parquet")
    assert events.columns == EVENT_SCHEMA.names
    assert summary["events"] == events.height > 0
    known = events.select(pl.coalesce("label_arrival_time", "event_time")).to_series()
    assert known.is_sorted()  # labels by their arrival
    assert (out / "truth" / "sessions.parquet").is_file()
    for view in ("customer_profile", "customer_financials", "corridor_costs"):
        days = sorted(path.parent.name for path in (out / "offline" / view).rglob("*.parquet"))
        assert days == ["event_date=2026-01-05", "event_date=2026-01-06"]


def test_env_prints_the_settings_quoted_for_a_shell(runner: CliRunner, tmp_path: Path) -> None:
    home = tmp_path / "it's a home"
    result = runner.invoke(app, ["env", "--home", str(home)])
    assert result.exit_code == 0
    script = result.stdout + 'printf "%s|%s|%s" "$DAIMA_HOME" "$DAIMA_REDIS" "$PREFECT_HOME"'
    shell = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert shell.stdout == f"{home}|127.0.0.1:1|{home}/prefect"
