"""A long run: a million requests, the champion swapped every 10 s, the server's memory watched."""

from __future__ import annotations

import http.client
import json
import random
import time
from typing import Any

from tests.benchmarks.serving_servers import api, memory_mb, start_load
from tests.benchmarks.serving_world import MODEL, World, register

RATE_PER_S = 3_500
SWAP_EVERY_S = 10.0
CONNECTIONS = 128
# Caches fill (statuses, recent predictions of 10,000 customers) before memory is compared.
WARM_UP_SHARE = 0.2


def soak(made: World, here: set[int], elsewhere: set[int], seconds: float) -> dict[str, Any]:
    """Requests, failures, swaps seen, and memory after warm-up: least, most and spread."""
    from mlflow import MlflowClient

    from serving.release import promote

    settings = made.settings
    client = MlflowClient(settings.mlflow_url, settings.mlflow_url)
    versions = [register(settings, seed=2), "1"]  # the one registered last is the champion now
    rng = random.Random(1)
    told = {
        "path": f"/v1/predict/{MODEL}",
        "bodies": [json.dumps({"customer": rng.choice(made.customers)}) for _ in range(20_000)],
        "connections": CONNECTIONS,
        "rate_per_s": RATE_PER_S,
        "requests": int(RATE_PER_S * seconds),
    }
    memory: list[float] = []
    seen: list[str] = []
    with api(settings, here) as (port, pid), start_load(settings, elsewhere, port, told) as process:
        began_s = time.monotonic()
        swaps = 0
        while process.poll() is None:
            passed_s = time.monotonic() - began_s
            if passed_s >= (swaps + 1) * SWAP_EVERY_S:
                swaps += 1
                promote(MODEL, versions[swaps % 2], client=client, why="soak")
            if passed_s > WARM_UP_SHARE * seconds:
                memory.append(memory_mb(pid))
            version = _serving(port)
            if not seen or seen[-1] != version:
                seen.append(version)
            time.sleep(0.5)
        output = process.stdout.read() if process.stdout else ""
    found = json.loads(output.splitlines()[-1])
    middle = sorted(memory)[len(memory) // 2]
    return {
        **found,
        "promoted": swaps,
        "swaps_seen": len(seen) - 1,
        "memory_mb": {"least": round(min(memory), 1), "most": round(max(memory), 1)},
        "memory_spread_pct": round(
            100 * max(max(memory) - middle, middle - min(memory)) / middle, 2
        ),
    }


def _serving(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/v1/models")
    models = json.loads(connection.getresponse().read())["models"]
    connection.close()
    return str(next(model["version"] for model in models if model["name"] == MODEL))
