"""How fast the simulator makes events: one core, seeded, no network.

    python -m tests.benchmarks.simulator [--json]

Prints commit, hardware and workload, then one line a run; with `--json` the last line is one JSON
object. `events_per_s` is the median over the runs of events / seconds of `simulate`, from the
knobs to the Arrow table in memory with the truth beside it; writing the Parquet file is apart.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.benchmarks.machine import commit, hardware

RUNS = 7
SEED = 1
DAYS = 3


def on_one_core() -> bool:
    """Keep this process on one core, and its thread pools at one thread; before their imports."""
    for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    if not hasattr(os, "sched_setaffinity"):
        return False  # macOS has no such call: the thread pools alone are held to one
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return True


def main(argv: list[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    arguments = parser.parse_args(argv)
    pinned = on_one_core()

    import numpy as np
    import pyarrow as pa

    from streaming.simulator import load_world, simulate, write_events

    pa.set_cpu_count(1)
    world = load_world()
    start = datetime(2025, 6, 2, tzinfo=UTC)
    print(f"commit: {commit()}")
    print(
        f"hardware: {hardware()}, {'pinned to one core' if pinned else 'not pinned'}; "
        f"numpy {np.__version__}, pyarrow {pa.__version__}"
    )
    print(
        f"workload: default world, {world.default_customers} customers, {DAYS} days from "
        f"{start:%Y-%m-%d}, seed {SEED}, {RUNS} runs after one to warm up"
    )
    seconds: list[float] = []
    for run in range(RUNS + 1):
        began = time.perf_counter()
        simulation = simulate(
            world,
            customers=world.default_customers,
            start=start,
            end=start + timedelta(days=DAYS),
            seed=SEED,
        )
        took = time.perf_counter() - began
        events = simulation.events.num_rows
        print(f"run {run}: {events} events in {took:.3f} s, {events / took:,.0f} events/s")
        if run:
            seconds.append(took)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.parquet"
        began = time.perf_counter()
        write_events(simulation, path)
        write_s = time.perf_counter() - began
        size_mb = path.stat().st_size / 1e6
    result = {
        "benchmark": "simulator",
        "events": events,
        "runs": RUNS,
        "seconds": round(statistics.median(seconds), 4),
        "events_per_s": round(events / statistics.median(seconds)),
        "events_per_s_slowest": round(events / max(seconds)),
        "events_per_s_fastest": round(events / min(seconds)),
        "write_seconds": round(write_s, 3),
        "file_mb": round(size_mb, 1),
    }
    print(json.dumps(result) if arguments.json else result)


if __name__ == "__main__":
    main(sys.argv[1:])
