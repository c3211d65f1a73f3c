"""How long after it is produced an event shows in the features, at a steady rate.

    python -m tests.benchmarks.freshness [--seconds S] [--events-per-s N] [--quick] [--json]

Real processes over one Valkey with append-only persistence: a producer that appends a batch every
10 ms, `python -m streaming` (epochs of 10 s, so that their stalls are in it), the prediction API,
and a reader. Every time begins just before the append of the event:

- `feast` and `api`: until a read of `customer_activity:lifetime_event_count` that has *ended*
  shows it, `get_online_features` of the on-demand view and `POST /v1/features`. The event is the
  first of its customer, ten a second each way; a read asks for all that are waited for, and the
  next one begins 2 ms after it.
- `store`: until the online store shows a state with its event time, for 200 events a second of
  customers with a history, looked at about every 2 ms.

The last line is one JSON object: `p50_ms` and `p99_ms` are the worse of `feast` and `api`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import numpy as np

from feature_repo.contracts.features import CUSTOMER, FEATURE_SET
from feature_repo.contracts.settings import ROOT, SHARDS, Settings
from feature_repo.stores.redis_connection import connect
from streaming.log.valkey_streams import ValkeyLog
from tests.applied import apply_definitions
from tests.benchmarks.live import EventTimes, StreamProcess, percentiles_ms, valkey_server
from tests.benchmarks.machine import commit, hardware
from tests.benchmarks.workload import LiveEvents
from tests.conftest import free_port

CUSTOMERS = 100_000
PRIMED_EACH = 10
TOLD = 200  # events a second that the store is asked for
MARKERS = 20  # of these, read through Feast and the API
_LOOK_EVERY_S = 0.002
_LOST_AFTER_S = 10.0


@contextmanager
def child(settings: Settings, *arguments: str, stdin: bool = False) -> Iterator[Any]:
    """A Python process of ours; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env={**os.environ, **settings.environment()},
        cwd=ROOT,
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@contextmanager
def api(settings: Settings, log: Path) -> Iterator[int]:
    """The prediction API on a free port."""
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "serving", "--port", str(port)],
            env={**os.environ, **settings.environment()},
            cwd=ROOT,
            stdout=output,
            stderr=output,
        )
    try:
        deadline_s = time.monotonic() + 120
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", "/health/live")
                connection.getresponse().read()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline_s:
                    raise RuntimeError(f"the API does not start\n{log.read_text()}") from None
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def prime(settings: Settings, customers: int, each: int, seed: int) -> dict[str, int]:
    """Append a week's events of every customer; the newest event time of a sample of them."""
    events = LiveEvents(customers, seed, name="primed-")
    log = ValkeyLog(connect(settings.redis), FEATURE_SET)
    now_us = time.time_ns() // 1000
    week_us = timedelta(days=7) // timedelta(microseconds=1)
    times = np.linspace(now_us - week_us, now_us - 1_000_000, customers * each).astype(np.int64)
    newest: dict[str, int] = {}
    for start in range(0, len(times), 65_536):
        some = times[start : start + 65_536]
        batch = events.take(some)
        log.append(batch)
        newest.update(zip(batch.column("customer_id").to_pylist(), some.tolist(), strict=True))
    log.close()
    return newest


def lines_of(pipe: IO[str]) -> queue.SimpleQueue[dict[str, Any] | None]:
    """A process's lines of JSON, as they come; None at the end."""
    found: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

    def read() -> None:
        for line in pipe:
            found.put(json.loads(line))
        found.put(None)

    threading.Thread(target=read, daemon=True).start()
    return found


class StoreProbe:
    """Notes when the store shows events."""

    def __init__(self, times: EventTimes) -> None:
        self.seconds: list[float] = []
        self._times = times
        self._waiting: list[dict[str, Any]] = []

    def add(self, event: dict[str, Any]) -> None:
        """Look out for an event."""
        self._waiting.append(event)

    def look(self) -> int:
        """Look once; how many events are still waited for."""
        if self._waiting:
            found = self._times.read([event["key"] for event in self._waiting])
            now_s = time.monotonic()
            left = []
            for event, newest_us in zip(self._waiting, found, strict=True):
                if newest_us >= event["time_us"]:
                    self.seconds.append(now_s - event["at_s"])
                elif now_s - event["at_s"] > _LOST_AFTER_S:
                    raise RuntimeError(f"{event} did not come in {_LOST_AFTER_S:g} s")
                else:
                    left.append(event)
            self._waiting = left
        return len(self._waiting)


def measure(settings: Settings, port: int, asked: argparse.Namespace) -> dict[str, Any]:
    """Produce and read; all times (s)."""
    with ExitStack() as stack:
        reader = stack.enter_context(
            child(settings, "tests.benchmarks.fresh_reads", str(port), stdin=True)
        )
        reader.stdout.readline()  # ready
        producer = stack.enter_context(
            child(
                settings, "tests.benchmarks.producer",
                *("--events-per-s", str(asked.events_per_s), "--seconds", str(asked.seconds)),
                *("--customers", str(asked.customers), "--told", str(TOLD)),
                *("--markers", str(MARKERS)),
            )
        )  # fmt: skip
        told = lines_of(producer.stdout)
        reads = lines_of(reader.stdout)
        probe = StoreProbe(EventTimes(settings, CUSTOMER))
        produced: dict[str, Any] = {}
        ended = False
        while not ended or probe.look():
            while not told.empty():
                event = told.get()
                if event is None:
                    ended = True
                elif "events" in event:
                    produced = event
                elif event and event["key"].startswith("marker-"):
                    reader.stdin.write(json.dumps(event) + "\n")
                    reader.stdin.flush()
                elif event:
                    probe.add(event)
            probe.look()
            time.sleep(_LOOK_EVERY_S)
        reader.stdin.close()
        found = list(iter(reads.get, None))
    through = {name: [one for one in found if one["through"] == name] for name in ("feast", "api")}
    return {"store": probe.seconds, "produced": produced, **through}


def summary(
    found: dict[str, Any], report: dict[str, Any], cpu_s: float, asked: argparse.Namespace
) -> dict[str, Any]:
    """The result."""
    through = {
        name: percentiles_ms([one["seconds"] for one in found[name]]) for name in ("feast", "api")
    }
    produced = found["produced"]
    return {
        "benchmark": "freshness",
        "p50_ms": max(each["p50_ms"] for each in through.values()),
        "p99_ms": max(each["p99_ms"] for each in through.values()),
        "events_per_s": round(produced["events"] / produced["seconds"]),
        "seconds": round(produced["seconds"], 1),
        **{
            name: {
                **each,
                "read_p50_ms": percentiles_ms([one["read_s"] for one in found[name]])["p50_ms"],
                "events": len(found[name]),
            }
            for name, each in through.items()
        },
        "store": {**percentiles_ms(found["store"]), "events": len(found["store"])},
        "longest_append_ms": round(1000 * produced["longest_append_s"], 1),
        "longest_poll_gap_ms": round(1000 * max(report["epoch_gaps_s"], default=0.0), 1),
        "stream_cores": round(cpu_s / produced["seconds"], 2),
    }


def main(argv: list[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events-per-s", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    parser.add_argument("--epoch-s", type=float, default=10.0)
    parser.add_argument("--quick", action="store_true", help="a small run, to see that it works")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    asked = parser.parse_args(argv)
    if asked.quick:
        asked.seconds, asked.customers, asked.epoch_s = 5.0, 5_000, 2.0
    print(f"commit: {commit()}\nhardware: {hardware()}")
    print(
        f"workload: {asked.events_per_s:,} events/s for {asked.seconds:g} s in batches of 10 ms; "
        f"{asked.customers:,} customers, primed with {PRIMED_EACH} events each; default feature "
        f"set, {SHARDS} partitions, epochs of {asked.epoch_s:g} s; Valkey with append-only file",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder, valkey_server() as address:
        home = Path(folder)
        settings = replace(
            Settings.from_env({"DAIMA_HOME": folder, "DAIMA_REDIS": address}),
            mlflow_url=f"sqlite:///{home / 'mlflow.db'}",
        )
        apply_definitions(settings)
        newest = prime(settings, asked.customers, PRIMED_EACH, seed=1)
        stream = StreamProcess(settings, "--epoch-s", str(asked.epoch_s))
        try:
            EventTimes(settings, CUSTOMER).wait_for(newest, stream)
            with api(settings, home / "api.log") as port:
                cpu_s = stream.cpu_s()
                found = measure(settings, port, asked)
                cpu_s = stream.cpu_s() - cpu_s
            report = stream.drain()
        finally:
            stream.kill()
    result = summary(found, report, cpu_s, asked)
    print(json.dumps(result) if asked.json else result)


if __name__ == "__main__":
    main(sys.argv[1:])
