"""The server as a process: started, asked, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from feature_repo.contracts.settings import ROOT
from serving.__main__ import main
from serving.settings import ServingSettings
from tests.conftest import free_port
from tests.serving.conftest import SERVICE, Training, wait_until

pytestmark = pytest.mark.xdist_group("serving")


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "python -m serving --port 8000" in text
    assert "loopback" in text or "127.0.0.1" in text


def test_a_wrong_setting_is_an_error_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DAIMA_REDIS", "nowhere")
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("error: DAIMA_REDIS: expected host:port")


def test_a_server_serves_and_ends_on_sigterm(
    settings: ServingSettings, register: Training, tmp_path: Path
) -> None:
    register()
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "serving", "--port", str(port)],
            cwd=ROOT,
            env=os.environ | settings.shared.environment(),
            stdout=log,
            stderr=log,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: process.poll() is not None or is_ready(url), timeout_s=120)
        assert process.poll() is None, (tmp_path / "log").read_text()
        answer = httpx.post(f"{url}/v1/predict/{SERVICE}", json={"customers": ["c1"]})
        assert answer.status_code == 200
        assert answer.json()["version"] == "1"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in {0, -signal.SIGTERM}
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready").status_code == 200
    except httpx.TransportError:
        return False
