"""A killed stream that comes back, and how long an epoch holds a stream up, with a large state.

    python -m tests.benchmarks.recovery [--customers N] [--events-each N] [--seconds S] [--kills N]
                                        [--quick] [--json]

The states of so many customers are made by folding a week's events of theirs, and stand in
checkpoints before the stream starts (their online values are not written: only fresh ones are
read). Then real processes over one Valkey with append-only persistence: a producer at a steady
rate, whose events are encoded ahead (`tests.benchmarks.steady_load`), and `python -m streaming`,
started again after the pause that `daima stream --workers` makes.

- `seconds_to_fresh`: the stream is killed (`kill -9`); the time until events that were produced
  after the kill show in the store in every partition. The worst of the kills. Starting Python,
  restoring the states and what has piled up meanwhile are in it.
- `epoch_stall_p99_ms`: of each epoch the longest time between two polls of the log; p99 over the
  epochs of an undisturbed run. `seconds_to_start` is how long it took to restore at first.
- `bytes_per_customer`: memory of the states; and of the checkpoints on disk.

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from feature_repo.contracts.features import CUSTOMER, FEATURE_SET
from feature_repo.contracts.settings import SHARDS, Settings
from feature_repo.engine.projection import key_texts, log_times_us, project
from feature_repo.stores.redis_connection import connect
from streaming.log.frames import Partition, shard_of, split_by_shard
from streaming.log.valkey_streams import ValkeyLog
from streaming.owned import OwnedPartitions
from streaming.setup import Setup
from tests.benchmarks.freshness import child, lines_of
from tests.benchmarks.live import EventTimes, StreamProcess, percentiles_ms, valkey_server
from tests.benchmarks.machine import commit, hardware
from tests.benchmarks.workload import LiveEvents

CUSTOMERS = 1_000_000
EVENTS_EACH = 50
TOLD = 100  # events a second whose way into the store is followed
# Of the log, which Valkey holds in memory: 24 hours at this rate would be a terabyte.
RETENTION = "60s"
_WEEK = timedelta(days=7)
_CHUNK = 400_000
_LOOKED_AT = 100
_LOOK_EVERY_S = 0.01
_PAUSE_S = 0.2  # of the supervisor, before it starts a dead process again


def prime(settings: Settings, customers: int, each: int) -> dict[str, float]:
    """Make the states of every customer, and the checkpoints that hold them.

    As the live run of a process that has folded these events would leave them.
    """
    setup = Setup(settings, None, SHARDS)
    events = LiveEvents(customers, seed=1, name="primed-")
    now_us = time.time_ns() // 1000
    times = np.linspace(
        now_us - _WEEK // timedelta(microseconds=1), now_us - 60_000_000, customers * each
    ).astype(np.int64)
    with connect(settings.redis) as client:
        # The log must be there, with its number of partitions.
        ValkeyLog(client, FEATURE_SET).append(events.take(times[-1:]))
        run = setup.lineage(client).continue_live("valkey")
        owned = OwnedPartitions()
        owned.open(setup.folder, setup.programs, setup.partitions(range(SHARDS)), run)
        began_s = time.perf_counter()

        def fold(key: Partition, part: pa.RecordBatch) -> None:
            owned.shards[key].fold(part, rows=False, states=False)
            owned.watermarks_us[key] = int(log_times_us(part).max())

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(times), _CHUNK):
                batch = events.take(times[start : start + _CHUNK])
                parts: dict[Partition, pa.RecordBatch] = {}
                for name, program in setup.programs.items():
                    own = project(program, batch)
                    split = split_by_shard(own, key_texts(program.entity, own), SHARDS)
                    parts |= {(name, shard): part for shard, part in split}
                list(pool.map(fold, parts, parts.values()))
        folded_s = time.perf_counter() - began_s
        for key, checkpoint in owned.checkpoints.items():
            checkpoint.add_base(owned.shards[key].snapshot())
            checkpoint.commit(run.log, run.generation, None, owned.watermarks_us.get(key))
        owned.close()
    whole = [shard for (name, _), shard in owned.shards.items() if name == CUSTOMER.name]
    keys = sum(shard.keys for shard in whole)
    on_disk = sum(path.stat().st_size for path in setup.folder.rglob("customer-*/*.state"))
    return {
        "customers": keys,
        "events_each": len(times) / keys,
        "bytes_per_customer": sum(shard.nbytes for shard in whole) / keys,
        "checkpoint_bytes_per_customer": on_disk / keys,
        "primed_events_per_s": len(times) / folded_s,
    }


class Lag:
    """Follows told events until the store shows them, and keeps how long each took."""

    def __init__(self, settings: Settings) -> None:
        self.seen: list[tuple[dict[str, Any], float]] = []  # event, when it showed
        self._times = EventTimes(settings, CUSTOMER)
        self._waiting: list[dict[str, Any]] = []

    def follow(self, event: dict[str, Any]) -> None:
        """Look out for an event."""
        self._waiting.append(event)

    def look(self) -> None:
        """Look once."""
        some = self._waiting[:_LOOKED_AT]  # the oldest come first
        if some:
            found = self._times.read([event["key"] for event in some])
            now_s = time.monotonic()
            left = []
            for event, newest_us in zip(some, found, strict=True):
                if newest_us >= event["time_us"]:
                    self.seen.append((event, now_s))
                else:
                    left.append(event)
            self._waiting[:_LOOKED_AT] = left

    def fresh_in_every_partition(self, after_s: float) -> float | None:
        """When the first event produced after an instant has shown in each; None: not yet."""
        first: dict[int, float] = {}
        for event, seen_s in self.seen:
            if event["at_s"] >= after_s:
                first.setdefault(shard_of(event["key"]), seen_s)
        return max(first.values()) if len(first) == SHARDS else None


def until(what: Callable[[], Any], step: Callable[[], None], within_s: float) -> Any:
    """Step until something is so; it."""
    deadline_s = time.monotonic() + within_s
    while not (found := what()):
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"not in {within_s:g} s")
        step()
    return found


def measure(settings: Settings, asked: argparse.Namespace) -> dict[str, Any]:
    """Run, kill and start again; times (s)."""
    arguments = ("--epoch-s", str(asked.epoch_s))
    produced_s = asked.seconds + asked.kills * (2.5 * asked.epoch_s + 30) + 60
    with ExitStack() as stack:
        started_s = time.monotonic()
        stream = StreamProcess(settings, *arguments)
        stack.callback(lambda: stream.kill())  # noqa: PLW0108 - the one that runs then
        producer = stack.enter_context(
            child(
                settings, "tests.benchmarks.steady_load",
                *("--events-per-s", str(asked.events_per_s), "--seconds", str(produced_s)),
                *("--customers", str(asked.customers), "--told", str(TOLD), "--seed", "2"),
            )
        )  # fmt: skip
        told = lines_of(producer.stdout)
        lag = Lag(settings)

        def step() -> None:
            stream.check()
            while not told.empty():
                event = told.get()
                if event and "key" in event:
                    lag.follow(event)
            lag.look()
            time.sleep(_LOOK_EVERY_S)

        def run_for(seconds: float) -> None:
            end_s = time.monotonic() + seconds
            until(lambda: time.monotonic() > end_s, step, seconds + 60)

        fresh_s = until(lambda: lag.fresh_in_every_partition(started_s), step, 120)
        seconds_to_start = fresh_s - started_s
        to_fresh, lags = [], []
        for _ in range(asked.kills):
            run_for(2.5 * asked.epoch_s)  # so that the kill falls into the middle of an epoch
            killed_s = time.monotonic()
            stream.kill()
            threading.Event().wait(_PAUSE_S)
            stream = StreamProcess(settings, *arguments)
            fresh_s = until(partial(lag.fresh_in_every_partition, killed_s), step, 120)
            to_fresh.append(fresh_s - killed_s)
        run_for(2 * asked.epoch_s)
        settled = time.monotonic()
        before, cpu_s = len(lag.seen), stream.cpu_s()
        run_for(asked.seconds)
        cpu_s = (stream.cpu_s() - cpu_s) / (time.monotonic() - settled)
        lags = [seen_s - event["at_s"] for event, seen_s in lag.seen[before:]]
        report = stream.drain()
    epochs = int(asked.seconds / asked.epoch_s)
    return {
        "seconds_to_start": seconds_to_start,
        "to_fresh": to_fresh,
        "lags": lags,
        "gaps_s": report["epoch_gaps_s"][-epochs:],
        "stream_cores": cpu_s,
    }


def main(argv: list[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    parser.add_argument("--events-each", type=int, default=EVENTS_EACH)
    parser.add_argument("--events-per-s", type=int, default=50_000)
    parser.add_argument("--epoch-s", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=200.0, help="of the undisturbed run")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a small run, to see that it works")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    asked = parser.parse_args(argv)
    if asked.quick:
        asked.customers, asked.events_each, asked.events_per_s = 10_000, 10, 2_000
        asked.epoch_s, asked.seconds, asked.kills = 1.0, 5.0, 1
    print(f"commit: {commit()}\nhardware: {hardware()}")
    print(
        f"workload: {asked.customers:,} customers with {asked.events_each} events each, then "
        f"{asked.events_per_s:,} events/s, encoded ahead; default feature set, {SHARDS} "
        f"partitions, epochs of {asked.epoch_s:g} s; {asked.kills} kills; Valkey with append-only "
        f"file, log kept for {RETENTION}",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder, valkey_server() as address:
        settings = Settings.from_env(
            {"DAIMA_HOME": folder, "DAIMA_REDIS": address, "DAIMA_LOG_RETENTION": RETENTION}
        )
        state = prime(settings, asked.customers, asked.events_each)
        print(f"primed: { ({name: round(value, 1) for name, value in state.items()}) }", flush=True)
        found = measure(settings, asked)
    result = {
        "benchmark": "recovery",
        "seconds_to_fresh": round(max(found["to_fresh"]), 2),
        "seconds_to_fresh_each": [round(each, 2) for each in found["to_fresh"]],
        "seconds_to_start": round(found["seconds_to_start"], 2),
        "epoch_stall_p99_ms": percentiles_ms(found["gaps_s"])["p99_ms"],
        "epoch_stall_ms": percentiles_ms(found["gaps_s"]),
        "epochs": len(found["gaps_s"]),
        "lag": percentiles_ms(found["lags"]),
        "stream_cores": round(found["stream_cores"], 2),
        "bytes_per_customer": round(state["bytes_per_customer"]),
        "checkpoint_bytes_per_customer": round(state["checkpoint_bytes_per_customer"]),
        "customers": round(state["customers"]),
        "events_each": round(state["events_each"], 1),
        "events_per_s": asked.events_per_s,
    }
    print(json.dumps(result) if asked.json else result)


if __name__ == "__main__":
    main(sys.argv[1:])
