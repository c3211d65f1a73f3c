"""The local stack, with its cheapest server: Valkey."""

from __future__ import annotations

import json
import os
from pathlib import Path

import psutil
import pytest

from infra.environment import export_lines
from infra.processes import answers
from infra.servers import VALKEY
from infra.stack import LocalStack, StackError, clear_home
from infra.stack_file import read_stack_file, settings_at
from infra.store_choice import online_store

FOREIGN = {"PREFECT_API_KEY": "secret", "MLFLOW_RUN_ID": "1", "PATH": os.environ["PATH"]}


def test_a_stack_says_what_it_is_and_leaves_nothing_running(tmp_path: Path) -> None:
    with LocalStack(tmp_path) as stack:
        stack.start(VALKEY)
        stack.wait(VALKEY)
        assert answers(stack.settings.redis_address)
        file = read_stack_file(tmp_path)
        assert file is not None
        assert file.settings == stack.settings
        assert set(file.pids) == {VALKEY}
        family = psutil.Process(file.pids[VALKEY]).children()
        assert [child.name() for child in family] == ["valkey-server"]
        assert f"export DAIMA_REDIS={stack.settings.redis}" in export_lines(tmp_path, {})
    assert not answers(stack.settings.redis_address)
    assert not any(child.is_running() for child in family)
    assert read_stack_file(tmp_path) is None
    assert not (tmp_path / "stack.json").exists()


def test_a_stack_ends_with_the_error_that_ends_its_owner(tmp_path: Path) -> None:
    def interrupted(stack: LocalStack) -> None:
        with stack:
            stack.start(VALKEY)
            stack.wait(VALKEY)
            raise KeyboardInterrupt

    stack = LocalStack(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        interrupted(stack)
    assert not answers(stack.settings.redis_address)


def test_one_home_has_one_stack(tmp_path: Path) -> None:
    with LocalStack(tmp_path):
        with pytest.raises(StackError, match="no running stack uses"), LocalStack(tmp_path):
            pass
        with pytest.raises(StackError, match="no running stack uses"):
            clear_home(tmp_path)


def test_the_file_of_a_stack_that_is_gone_counts_as_none(tmp_path: Path) -> None:
    with LocalStack(tmp_path):
        text = (tmp_path / "stack.json").read_text()
    document = json.loads(text)
    document["pid"] = 2**22 + 1  # above the largest process id
    (tmp_path / "stack.json").write_text(json.dumps(document))
    assert read_stack_file(tmp_path) is None
    (tmp_path / "stack.json").write_text("{")
    assert read_stack_file(tmp_path) is None


def test_clearing_a_home_leaves_what_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "offline" / "events").mkdir(parents=True)
    (tmp_path / "registry.db").write_text("")
    (tmp_path / "thesis.txt").write_text("years of work")
    clear_home(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_home_with_events_of_ones_own_is_not_cleared(tmp_path: Path) -> None:
    rows = tmp_path / "offline" / "events" / "rows.parquet"
    rows.parent.mkdir(parents=True)
    rows.write_text("")
    with pytest.raises(StackError, match="without events of your own"):
        clear_home(tmp_path)
    assert rows.exists()
    (tmp_path / "simulation").mkdir()
    clear_home(tmp_path)
    assert not rows.exists()


def test_children_do_not_inherit_somebody_elses_settings(tmp_path: Path) -> None:
    environ = LocalStack(tmp_path, environ=FOREIGN).child_environment()
    assert "PREFECT_API_KEY" not in environ
    assert "MLFLOW_RUN_ID" not in environ
    assert environ["PATH"] == FOREIGN["PATH"]
    assert environ["DAIMA_HOME"] == str(tmp_path)
    assert environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert environ["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"


def test_a_command_without_a_stack_gets_a_store_that_keeps_its_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import redis

    environ = {**os.environ, "DAIMA_REDIS": "127.0.0.1:1"}
    for expected in (None, b"kept"):
        with online_store(tmp_path, embedded=False, environ=environ) as settings:
            host, _, port = settings.redis_address.partition(":")
            with redis.Redis(host=host, port=int(port)) as client:
                assert client.get("key") == expected
                client.set("key", "kept")
        assert "using an embedded Valkey" in capsys.readouterr().err


def test_a_command_uses_the_stack_that_runs_at_its_home(tmp_path: Path) -> None:
    with LocalStack(tmp_path) as stack:
        stack.start(VALKEY)
        stack.wait(VALKEY)
        with online_store(tmp_path, embedded=False, environ={}) as settings:
            assert settings == stack.settings
        assert settings_at(tmp_path, {})[0] == stack.settings


def test_waiting_for_what_was_never_started_is_an_error(tmp_path: Path) -> None:
    with LocalStack(tmp_path) as stack, pytest.raises(StackError, match="mlflow"):
        stack.wait("mlflow")
