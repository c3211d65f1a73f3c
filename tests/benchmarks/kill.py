"""`kill -9` at random points of a live run, against an undisturbed one; see `tests/kill_run.py`.

    python -m tests.benchmarks.kill [--events N] [--kills N] [--seed N] [--json]

The last line is one JSON object; `different_values`, `different_archive_rows` and
`values_gone_back` are to be 0, and the exit code is 1 if one is not.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.benchmarks.machine import commit, hardware
from tests.kill_run import run_with_kills
from tests.killed_stream import SHARDS


def main(argv: list[str]) -> int:
    """Run it; exit 1 if the kills have changed anything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--keys", type=int, default=50_000, help="customers, and counterparties")
    parser.add_argument("--events-per-s", type=int, default=8_000, help="while it is killed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    asked = parser.parse_args(argv)
    print(f"commit: {commit()}\nhardware: {hardware()}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        report = run_with_kills(
            Path(folder),
            events=asked.events,
            kills=asked.kills,
            keys=asked.keys,
            events_per_s=asked.events_per_s,
            seed=asked.seed,
        )
    result = {"benchmark": "kill", "partitions": SHARDS, "seed": asked.seed, **asdict(report)}
    print(json.dumps(result) if asked.json else result)
    wrong = report.different_values + report.different_archive_rows + report.values_gone_back
    return int(wrong > 0 or any(report.exit_codes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
