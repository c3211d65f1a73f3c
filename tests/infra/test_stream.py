"""`daima stream` with two processes: work shared, one killed and back, all drained, none left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from feature_repo.contracts.errors import DaimaError
from feature_repo.contracts.features import CUSTOMER, FEATURE_SET
from feature_repo.contracts.settings import ROOT, Settings
from feature_repo.stores.redis_connection import connect
from infra.stream import LiveOptions, run_stream_live
from streaming.log.valkey_streams import ValkeyLog
from tests.streaming.made_events import batch_of, page_view
from tests.streaming.store_reading import archived_ids, state_of

CUSTOMERS = 24


def wait_for(what: Callable[[], bool], seconds: float = 60) -> None:
    deadline_s = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def test_two_processes_survive_a_kill_and_drain_on_sigterm(tmp_path: Path, valkey: str) -> None:
    settings = Settings.from_env({"DAIMA_HOME": str(tmp_path), "DAIMA_REDIS": valkey})
    now = datetime.now(UTC)
    with (
        connect(valkey) as client,
        subprocess.Popen(
            [sys.executable, "-m", "infra.cli", "stream", "--workers", "2"],
            env={**os.environ, **settings.environment()},
            cwd=ROOT,
        ) as supervisor,
    ):
        try:
            log = ValkeyLog(client, FEATURE_SET)

            def send(first: int) -> None:
                events = [
                    page_view(first + n, f"c{n}", now + timedelta(seconds=first))
                    for n in range(CUSTOMERS)
                ]
                log.append(batch_of(events))

            def states() -> list[bytes | None]:
                return [state_of(client, CUSTOMER, f"c{n}") for n in range(CUSTOMERS)]

            send(0)
            wait_for(lambda: all(states()))
            processes = psutil.Process(supervisor.pid).children()
            assert len(processes) == 2
            processes[0].kill()
            before = states()
            send(CUSTOMERS)
            wait_for(lambda: all(a != b for a, b in zip(states(), before, strict=True)))
            processes += psutil.Process(supervisor.pid).children()
            supervisor.send_signal(signal.SIGTERM)
            assert supervisor.wait(30) == 0
            assert not psutil.wait_procs(processes, 10)[1]
        finally:
            supervisor.kill()
    assert archived_ids(settings) == sorted(f"e{n}" for n in range(2 * CUSTOMERS))


def test_an_unknown_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(DaimaError, match="valkey, kafka"):
        run_stream_live(tmp_path, None, LiveOptions(source="rabbit"))
