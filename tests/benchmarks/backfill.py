"""How fast `daima backfill` computes and writes a row an event, on one core and by two processes.

    python -m tests.benchmarks.backfill [--events N] [--runs N] [--json]

Simulated events of 100,000 customers (seeded, made once into a temporary folder), all entities of
the default feature set, Parquet in and Parquet out, everything on disk at the end. Each run is a
process of its own. The last line is one JSON object: `events_per_s` is the median over the runs of
events / seconds of one process pinned to one core, `peak_rss_mb` the largest of its peaks,
`two_process_ratio` the median of (seconds of one process / seconds of two on two cores), both
over all events.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.benchmarks.machine import commit, hardware

ROOT = Path(__file__).resolve().parents[2]
EVENTS = 10_000_000
CUSTOMERS = 100_000
SEED = 1
START = datetime(2025, 6, 2, tzinfo=UTC)
# A little less than the default world's customers do in a day.
EVENTS_A_DAY = 390_000
_MB_OF_MAXRSS = 1 / 1024 if sys.platform == "linux" else 1 / 2**20


def make(path: Path, events: int) -> None:
    """Write the workload: the first so many events of sessions of the simulated world."""
    from dataclasses import replace

    from streaming.simulator import load_world, simulate, write_events
    from tests.benchmarks.workload import of_sessions

    simulation = simulate(
        load_world(),
        customers=CUSTOMERS,
        start=START,
        end=START + timedelta(days=events / EVENTS_A_DAY),
        seed=SEED,
    )
    write_events(replace(simulation, events=of_sessions(simulation.events).slice(0, events)), path)


def once(path: Path, out: Path, processes: int) -> dict[str, float]:
    """One backfill in this process, on as many cores as processes."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:processes]))
    for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"  # before their imports, also those of child processes
    import pyarrow as pa

    from feature_repo.contracts.feature_set import load_feature_set
    from streaming.backfill import backfill, event_source

    pa.set_cpu_count(1)
    report = backfill(event_source(path), load_feature_set(), out, processes=processes)
    who = resource.RUSAGE_SELF if processes == 1 else resource.RUSAGE_CHILDREN
    return {
        "events": report.events,
        "rows": report.rows,
        "seconds": report.seconds,
        "peak_rss_mb": resource.getrusage(who).ru_maxrss * _MB_OF_MAXRSS,
        "bytes": sum(part.stat().st_size for part in out.glob("*.parquet")),
    }


def _run(*arguments: str) -> dict[str, Any]:
    output = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.backfill", *arguments],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def main(argv: list[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--once", type=Path, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--processes", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.make:
        make(arguments.make, arguments.events)
        print("{}")
        return
    if arguments.once:
        print(json.dumps(once(arguments.once[0], arguments.once[1], arguments.processes)))
        return
    print(f"commit: {commit()}\nhardware: {hardware()}")
    print(
        f"workload: {arguments.events:,} events of {CUSTOMERS:,} customers from {START:%Y-%m-%d}, "
        f"seed {SEED}; default feature set, all entities; {arguments.runs} runs"
    )
    runs: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        events = home / "events.parquet"
        _run("--make", str(events), "--events", str(arguments.events))
        small = home / "small.parquet"
        _run("--make", str(small), "--events", "10000")
        _run("--once", str(small), str(home / "small"))  # compiles the kernels, once a machine
        for number in range(arguments.runs):
            for processes, found in runs.items():
                out = home / f"out-{number}-{processes}"
                found.append(_run("--once", str(events), str(out), "--processes", str(processes)))
                shown = {name: round(value, 1) for name, value in found[-1].items()}
                print(f"run {number + 1}, {processes} process(es): {shown}", flush=True)
                for part in out.glob("*"):
                    part.unlink()
    rates = [run["events"] / run["seconds"] for run in runs[1]]
    ratios = [one["seconds"] / two["seconds"] for one, two in zip(runs[1], runs[2], strict=True)]
    result = {
        "benchmark": "backfill",
        "events": runs[1][0]["events"],
        "rows": runs[1][0]["rows"],
        "events_per_s": round(statistics.median(rates)),
        "peak_rss_mb": round(max(run["peak_rss_mb"] for run in runs[1])),
        "two_process_ratio": round(statistics.median(ratios), 2),
        "two_process_events_per_s": round(
            statistics.median(run["events"] / run["seconds"] for run in runs[2])
        ),
        "bytes_per_row": round(runs[1][0]["bytes"] / max(runs[1][0]["rows"], 1), 1),
        "runs": arguments.runs,
        "spread": {
            "events_per_s": [round(min(rates)), round(max(rates))],
            "two_process_ratio": [round(min(ratios), 2), round(max(ratios), 2)],
        },
    }
    print(json.dumps(result) if arguments.json else result)


if __name__ == "__main__":
    main(sys.argv[1:])
