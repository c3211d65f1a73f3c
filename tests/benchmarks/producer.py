"""A process that appends events to the live log at a steady rate, and tells of some of them.

    python -m tests.benchmarks.producer --events-per-s N --seconds S [--customers N] ...

Each line of its output is JSON: `{"key": ..., "time_us": ..., "at_s": ...}` of an event that was
appended: its customer, event time, and the monotonic clock just before the append began. The last
line counts: events, seconds, longest append.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from feature_repo.contracts.features import FEATURE_SET
from feature_repo.contracts.settings import Settings
from feature_repo.stores.redis_connection import connect
from streaming.log.valkey_streams import ValkeyLog
from tests.benchmarks.workload import LiveEvents

_EVERY_S = 0.01


def produce(  # noqa: PLR0917 - what its command line says
    events: LiveEvents, log: ValkeyLog, events_per_s: int, seconds: float, told: int, markers: int
) -> None:
    """Append a batch every 10 ms, or as fast as it goes where that is too slow.

    Args:
        told: of how many events a second it is told.
        markers: how many of these a second are of customers of their own, never seen before.
    """
    rng = np.random.default_rng(0)
    began_s = time.monotonic()
    sent = number = tellings = 0
    longest_s = 0.0
    while (passed_s := time.monotonic() - began_s) < seconds:
        count = round(passed_s * events_per_s) - sent
        if count < events_per_s * _EVERY_S / 2:
            time.sleep(_EVERY_S / 4)
            continue
        now_us = time.time_ns() // 1000
        batch = events.take(np.arange(now_us - count + 1, now_us + 1))
        chosen: list[int] = []
        while tellings < passed_s * told:
            chosen.append(int(rng.integers(count)))
            tellings += 1
        keys = batch.column("customer_id").to_pylist()
        for at in chosen:
            if number < passed_s * markers:
                keys[at] = f"marker-{number}"
                number += 1
        batch = batch.set_column(
            batch.schema.get_field_index("customer_id"),
            batch.schema.field("customer_id"),
            pa.array(keys, pa.string()),
        )
        at_s = time.monotonic()
        log.append(batch)
        longest_s = max(longest_s, time.monotonic() - at_s)
        sent += count
        for at in chosen:
            told_of = {"key": keys[at], "time_us": now_us - count + 1 + at, "at_s": at_s}
            print(json.dumps(told_of), flush=False)
        sys.stdout.flush()
    print(json.dumps({"events": sent, "seconds": passed_s, "longest_append_s": longest_s}))


def main(argv: Sequence[str]) -> int:
    """Produce into the log that `DAIMA_REDIS` names."""
    parser = argparse.ArgumentParser("python -m tests.benchmarks.producer")
    parser.add_argument("--events-per-s", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--customers", type=int, default=100_000)
    parser.add_argument("--told", type=int, default=200)
    parser.add_argument("--markers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=2)
    asked = parser.parse_args(argv)
    events = LiveEvents(asked.customers, asked.seed, name=f"p{asked.seed}-")
    log = ValkeyLog(connect(Settings.from_env().redis), FEATURE_SET)
    print("{}", flush=True)  # ready
    produce(events, log, asked.events_per_s, asked.seconds, asked.told, asked.markers)
    log.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
