"""The server as a process: started, asked, ended."""

from __future__ import annotations

import os
import re
import shutil
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
from tests.serving.embedded import embed_two

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
    embed_two(settings.shared)
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
        wait_until(lambda: httpx.get(f"{url}/v1/similar/c1").status_code == 200)
        if shutil.which("curl"):
            for call, status in documented_calls():
                assert pasted(call, url) == status, call
        # An id with slashes goes past uvicorn's own reading of the path as well.
        profile = httpx.get(f"{url}/v1/profile/uk%2F4//2").json()
        assert profile["customer"] == "uk/4//2"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in {0, -signal.SIGTERM}
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def documented_calls() -> list[tuple[str, int]]:
    """The calls in docs/api.md, each with the status that it says."""
    text = (ROOT / "docs" / "api.md").read_text()
    blocks = re.findall(r"```bash\n(.*?)```(?:\n+`HTTP (\d+)`)?", text, flags=re.DOTALL)
    return [(block.strip(), int(status or 200)) for block, status in blocks if "curl" in block]


def pasted(call: str, url: str) -> int:
    """The status of a call as a shell does it, to a server on another port."""
    here = call.replace("http://127.0.0.1:8000", url)
    done = subprocess.run(
        ["sh", "-c", f"{here} -o /dev/null -w '%{{http_code}}'"],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready").status_code == 200
    except httpx.TransportError:
        return False
