"""`daima doctor`: everything that is away is named, with what to do; secrets are not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from typer.testing import CliRunner

from feature_repo.contracts.features import FEATURE_SET
from feature_repo.contracts.settings import Settings
from feature_repo.stores.forgotten import ForgottenFile, Tombstone
from infra import checkup_store
from infra.cli import app
from infra.doctor import examine
from infra.finding import Finding, Level
from streaming.log.valkey_streams import ValkeyLog
from streaming.run import run_live
from tests.streaming.made_events import batch_of
from tests.streaming.test_rebuild import made

NOWHERE = {
    "DAIMA_REDIS": "127.0.0.1:1,password=topsecret",
    "MLFLOW_TRACKING_URI": "http://ana:topsecret@127.0.0.1:1",
    "PREFECT_API_URL": "http://ana:topsecret@127.0.0.1:1/api",
    "DAIMA_API": "http://ana:topsecret@127.0.0.1:1",
}


@pytest.fixture
def away(tmp_path: Path) -> Settings:
    """A home without anything, and servers that do not exist."""
    return Settings.from_env({**NOWHERE, "DAIMA_HOME": str(tmp_path / "home")})


def by_name(findings: list[Finding], level: Level | None = None) -> dict[str, Finding]:
    return {each.check: each for each in findings if level is None or each.level is level}


def test_all_that_is_away_is_a_problem_with_a_remedy(away: Settings) -> None:
    problems = by_name(examine(away, NOWHERE), Level.PROBLEM)
    assert set(problems) == {"online store", "Feast registry", "MLflow", "Prefect",
                             "prediction API"}  # fmt: skip
    assert all(finding.mend for finding in problems.values())
    assert "DAIMA_REDIS" in problems["online store"].mend
    warnings = by_name(examine(away, NOWHERE), Level.WARNING)
    assert "daima replay" in warnings["offline store"].mend


def test_the_command_says_it_for_people_and_for_programs(
    away: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in away.environment().items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == 1
    assert "topsecret" not in result.output
    assert "http://***@127.0.0.1:1 does not answer" in result.stdout
    assert "topsecret" not in repr(away) + CliRunner().invoke(app, ["status", "--json"]).output
    told = json.loads(result.stdout.splitlines()[-1])
    assert told["healthy"] is False
    assert {"check": "MLflow", "level": "problem"}.items() <= next(
        each for each in told["checks"] if each["check"] == "MLflow"
    ).items()


@pytest.fixture
def client(valkey: str) -> Any:
    host, port = valkey.split(":")
    with redis.Redis(host=host, port=int(port)) as client:
        yield client


@pytest.fixture
def streamed(away: Settings, valkey: str, client: Any) -> Settings:
    """Fifty events in the log and in the features."""
    settings = replace(away, redis=valkey)
    ValkeyLog(client, FEATURE_SET, shards=2).append(batch_of(made(range(50))))
    seen: list[int] = []
    run_live(settings, lambda: sum(seen) >= 50, progress=seen.append)
    return settings


def test_a_store_that_holds_its_values_is_well(streamed: Settings) -> None:
    found = by_name(examine(streamed, NOWHERE))
    for name in ("online store", "states", "event log", "offline store", "settings", "definitions"):
        assert found[name].level is Level.OK, found[name]
    assert found["event log"].found.endswith("entries in 2 partitions")


def test_lost_values_are_to_be_rebuilt(streamed: Settings, client: Any) -> None:
    client.flushall()
    found = by_name(examine(streamed, NOWHERE))
    assert (found["states"].level, found["states"].mend) == (
        Level.PROBLEM,
        "refill it: daima rebuild",
    )


def test_a_stream_that_does_not_run_is_missed(
    streamed: Settings, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ValkeyLog(client, FEATURE_SET, shards=2).append(batch_of(made(range(50, 60))))
    monkeypatch.setattr(checkup_store, "_QUIET", -checkup_store._QUIET)
    found = by_name(examine(streamed, NOWHERE))
    assert "daima stream" in found["event log"].mend


def test_a_forgetting_that_was_broken_off_is_told(away: Settings) -> None:
    ForgottenFile(away.offline).change(
        lambda found: found.update({"a" * 32: Tombstone(1, customer="c1")})
    )
    assert "daima forget" in by_name(examine(away, NOWHERE))["forgotten customers"].mend


def test_wrong_settings_and_definitions_are_told(away: Settings, tmp_path: Path) -> None:
    settings = replace(away, definitions=tmp_path / "none.py")
    found = by_name(examine(settings, {**NOWHERE, "DAIMA_FEATURE_LOG_SHARE": "7"}))
    assert "DAIMA_FEATURE_LOG_SHARE" in found["settings"].found
    assert found["definitions"].level is Level.PROBLEM


def test_a_check_that_fails_itself_is_a_finding(
    away: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(settings: Settings, environ: Any) -> Any:
        raise RuntimeError("password=topsecret")

    monkeypatch.setattr("infra.doctor.CHECKS", (broken,))
    (finding,) = examine(away, NOWHERE)
    assert finding.level is Level.PROBLEM
    assert "topsecret" not in finding.found
