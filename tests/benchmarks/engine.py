"""The feature engine with recovery on, against `map` + `stateful_map`, on one core.

    python -m tests.benchmarks.engine [--customers N] [--seconds S] [--runs N] [--quick] [--json]

Simulated events of the default world's customers at 1.8 times its sessions (so that the longest
window holds about 50 events of each), in frames of 20,000 in the order of arrival, one in a hundred
sent twice and one in a thousand late. The first days are folded in before, untimed; then each side
runs for so many seconds, with epochs of 10 s, in a process of its own pinned to one core:

- `engine`: our dataflow without the stores: admission, the customer's default feature set (a row an
  event and an online state a touched customer), checkpoints on disk.
- `rows`: the same without the online states: what the other side computes.
- `baseline`: Bytewax's `map` + `stateful_map` with Bytewax's recovery: a row an event, by plain
  Python objects (`stateful_map.py`). Its source hands out finished Python tuples.
- `kernels`: no dataflow: `Shard.fold` alone, and the compiled kernels within; and numba written for
  these features alone (`plain_numba.py`), no engine. By processor time.

Before that, all rows of a sample of customers are compared between engine and baseline. The last
line is one JSON object: `ratio` is `events_per_s` / `baseline_events_per_s`, medians over the runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.machine import commit, hardware
from tests.benchmarks.simulator import on_one_core

ROOT = Path(__file__).resolve().parents[2]
CUSTOMERS = 100_000
SEED = 1
PRIMED_DAYS = 7
# Enough for the fastest side to be busy for as long as it is timed.
_MOST_EVENTS_A_SECOND = 700_000
SIDES = ("engine", "baseline", "rows", "kernels")


def make(folder: Path, customers: int, seconds: float) -> None:
    """Write the workload: events to begin with, and those to be timed on."""
    from tests.benchmarks.workload import EVENTS_A_DAY, simulated, write_frames

    days = seconds * _MOST_EVENTS_A_SECOND / (customers * EVENTS_A_DAY)
    write_frames(folder / "primed.arrow", simulated(customers, PRIMED_DAYS, SEED))
    write_frames(
        folder / "timed.arrow", simulated(customers, max(days, 1), SEED, first_day=PRIMED_DAYS)
    )


def once(folder: Path, side: str, seconds: float) -> dict[str, float]:
    """One side, in this process; imports come after the process is kept on one core."""
    from streaming.kept_memory import keep_memory
    from tests.benchmarks import engine_check, engine_dataflow, stateful_map_flow

    keep_memory()  # as the stream does; on all sides
    match side:
        case "engine" | "rows":
            return engine_dataflow.run_engine(folder, seconds, states=side == "engine")
        case "baseline":
            return stateful_map_flow.run_baseline(folder, seconds)
        case "kernels":
            ours = engine_dataflow.run_kernel(folder, seconds)
            return ours | engine_dataflow.run_plain(folder, seconds)
        case "check":
            rows = engine_check.compare(folder)
            return {"equal_rows": rows, **engine_check.measure_state(folder)}
        case _:
            raise ValueError(side)


def _run(*arguments: str) -> dict[str, Any]:
    output = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.engine", *arguments],
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
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    parser.add_argument("--seconds", type=float, default=30.0, help="that each side runs")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a small run, to see that it works")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--once", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.customers, arguments.seconds, arguments.runs = 2_000, 1.0, 1
    pinned = on_one_core()
    if arguments.once == "make":
        make(arguments.folder, arguments.customers, arguments.seconds)
        print("{}")
        return
    if arguments.once:
        print(json.dumps(once(arguments.folder, arguments.once, arguments.seconds)))
        return
    print(f"commit: {commit()}")
    print(f"hardware: {hardware()}, {'pinned to one core' if pinned else 'not pinned'}")
    print(
        f"workload: {arguments.customers:,} simulated customers, seed {SEED}, primed with "
        f"{PRIMED_DAYS} days; {arguments.runs} runs of {arguments.seconds:g} s a side, epochs of "
        f"10 s; default features of the customer; 8 "
        f"partitions"
    )
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        options = ["--folder", folder, "--seconds", str(arguments.seconds)]
        _run("--once", "make", *options, "--customers", str(arguments.customers))
        state = _run("--once", "check", *options)
        print(
            f"engine and baseline agree on a sample's every value; state: {_rounded(state)}",
            flush=True,
        )
        for number in range(arguments.runs):
            for side, runs in found.items():
                runs.append(_run("--once", side, *options))
                print(f"run {number + 1}, {side}: {_rounded(runs[-1])}", flush=True)

    def rates(side: str, name: str = "events_per_s") -> list[float]:
        return [run[name] for run in found[side]]

    ours, theirs = rates("engine"), rates("baseline")
    result = {
        "benchmark": "engine",
        "customers": round(state["customers"]),
        "events_each": round(state["events_each"], 1),
        "ratio": round(statistics.median(ours) / statistics.median(theirs), 1),
        "events_per_s": round(statistics.median(ours)),
        "baseline_events_per_s": round(statistics.median(theirs)),
        "rows_only_events_per_s": round(statistics.median(rates("rows"))),
        **{name: round(statistics.median(rates("kernels", name))) for name in found["kernels"][0]},
        "bytes_per_customer": round(state["bytes_per_customer"]),
        "online_bytes_per_customer": round(state["online_bytes_per_customer"]),
        "longest_poll_gap_ms": round(max(rates("engine", "longest_poll_gap_ms")), 1),
        "runs": arguments.runs,
        "spread": {
            side: [round(min(rates(side))), round(max(rates(side)))]
            for side in ("engine", "baseline", "rows")
        },
    }
    print(json.dumps(result) if arguments.json else result)


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 1) for name, value in figures.items()}


if __name__ == "__main__":
    main(sys.argv[1:])
