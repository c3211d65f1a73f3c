"""A server that is told to end fails nobody."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from time import monotonic

import httpx
import pytest
import uvicorn

from feature_repo.contracts.settings import ROOT
from serving.drain import DrainingServer
from serving.overload import Gate
from serving.settings import ServingSettings
from tests.conftest import free_port
from tests.serving.conftest import SERVICE, Training, wait_until
from tests.serving.test_main import is_ready

pytestmark = pytest.mark.xdist_group("serving")

TOKEN = "0123456789abcdef-secret"  # noqa: S105


@contextmanager
def server(settings: ServingSettings, folder: Path, *arguments: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:  # fmt: skip  # noqa: E501
    """A server process that asks for a token, ready; its URL."""
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "serving", "--port", str(port), *arguments],
            cwd=ROOT,
            env=os.environ | settings.shared.environment() | {"DAIMA_API_TOKEN": TOKEN},
            stdout=log,
            stderr=log,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: process.poll() is not None or is_ready(url), timeout_s=120)
        assert process.poll() is None, (folder / "log").read_text()
        yield url, process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_sigterm_under_load_fails_no_request(
    settings: ServingSettings, register: Training, tmp_path: Path
) -> None:
    register()

    async def main(url: str, process: subprocess.Popen[bytes]) -> Counter[object]:
        seen: Counter[object] = Counter()
        headers = {"Authorization": f"Bearer {TOKEN}"}

        async def ask() -> None:
            async with httpx.AsyncClient(headers=headers, timeout=10) as client:
                while True:
                    try:
                        answer = await client.post(
                            f"{url}/v1/predict/{SERVICE}", json={"customer": "c1"}
                        )
                    except httpx.ConnectError:  # nobody listens any more: it has ended
                        seen["refused"] += 1
                        return
                    except httpx.TransportError as error:
                        seen[repr(error)] += 1
                        return
                    seen[answer.status_code, answer.headers.get("connection")] += 1

        asking = [asyncio.create_task(ask()) for _ in range(8)]
        while seen[200, None] < 20 and not any(task.done() for task in asking):
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.2)
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{url}/health/ready")).status_code == 503
            assert (await client.get(f"{url}/health/live")).status_code == 200
        await asyncio.gather(*asking)
        return seen

    # On every address, which a token allows.
    with server(settings, tmp_path, "--host", "0.0.0.0") as (url, process):  # noqa: S104
        assert httpx.get(f"{url}/v1/models").status_code == 401
        began = monotonic()
        seen = asyncio.run(main(url, process))
        assert process.wait(20) == 0
        assert monotonic() - began < 15
        text = (tmp_path / "log").read_text()
    assert seen[200, "close"] > 0
    assert set(seen) == {(200, None), (200, "close"), "refused"}, seen
    assert "must bear the token" in text
    assert TOKEN not in text


def test_a_second_sigterm_skips_the_wait_and_ctrl_c_too() -> None:
    def made() -> tuple[DrainingServer, Gate]:
        gate = Gate(1)
        config = uvicorn.Config("nowhere:app", log_config=None)
        return DrainingServer(config, gate, timedelta(minutes=5)), gate

    found, gate = made()
    found.handle_exit(signal.SIGTERM, None)
    assert gate.draining
    assert not found.should_exit
    assert not asyncio.run(found.on_tick(1))
    found.handle_exit(signal.SIGTERM, None)
    assert found.should_exit
    found, gate = made()
    found.handle_exit(signal.SIGINT, None)
    assert found.should_exit
    assert gate.draining
