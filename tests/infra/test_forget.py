"""`daima forget` as people call it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.cli import app


def test_it_says_what_it_did(valkey: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAIMA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAIMA_REDIS", valkey)
    result = CliRunner().invoke(app, ["forget", "c1", "--json"])
    assert result.exit_code == 0, result.output
    assert "nothing was known of c1" in result.stdout
    assert json.loads(result.stdout.splitlines()[-1])["known"] is False


def test_without_the_store_nothing_is_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAIMA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAIMA_REDIS", "127.0.0.1:1")
    result = CliRunner().invoke(app, ["forget", "c1"])
    assert result.exit_code == 2
    assert "then run this again" in result.stderr
