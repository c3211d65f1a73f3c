"""The other side of the serving benchmark: `feast serve` on Feast's stock Redis store.

It returns the same features of the same store, and predicts nothing. It is told each customer's
corridor, which our side finds by itself.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

from feature_repo.contracts.settings import REPO_PATH, ROOT, Settings
from tests.benchmarks.serving_servers import on_core, wait_for_port
from tests.benchmarks.serving_world import MODEL
from tests.conftest import free_port

PATH = "/get-online-features"


@contextmanager
def feast_serve(settings: Settings, core: set[int]) -> Iterator[tuple[int, int]]:
    """A running `feast serve`: its port, and the process that answers."""
    folder = settings.home / "stock"
    folder.mkdir(exist_ok=True)
    document = yaml.safe_load((REPO_PATH / "feature_store.yaml").read_text())
    document["registry"]["path"] = str(settings.home / "registry.db")
    document["online_store"] = {"type": "redis", "connection_string": settings.redis}
    document["offline_store"] = {"type": "duckdb"}
    (folder / "feature_store.yaml").write_text(yaml.safe_dump(document))
    port = free_port()
    feast = shutil.which("feast", path=str(Path(sys.executable).parent)) or "feast"
    with (settings.home / "feast.log").open("wb") as output, on_core(core):
        process = subprocess.Popen(
            [feast, "serve", "-p", str(port), "--no-access-log", "--max-requests", "0"],
            cwd=folder,
            env={**os.environ, **settings.environment(), "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=output,
        )
    try:
        wait_for_port(port, process, settings.home / "feast.log")
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(30)


def check(port: int, body: str, refs: Sequence[str]) -> None:
    """See that it answers with the features that our side predicts from, and finds values.

    Raises:
        RuntimeError: it does not: the sides would not be comparable.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", PATH, body, {"Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    connection.close()
    names = answer["metadata"]["feature_names"]
    missing = {ref.partition(":")[2] for ref in refs} - set(names)
    found = [column["values"][0] for column in answer["results"]]
    if missing or sum(value is not None for value in found) < len(refs) // 2:
        raise RuntimeError(f"feast serve answers without {sorted(missing)}, or without values")


def bodies(customers: Sequence[str], corridors: Sequence[str]) -> list[str]:
    """One customer each, with a corridor."""
    now_us = time.time_ns() // 1000
    return [
        json.dumps(
            {
                "feature_service": MODEL,
                "entities": {
                    "customer_id": [customer],
                    "corridor": [corridors[number % len(corridors)]],
                    "as_of_us": [now_us],
                },
            }
        )
        for number, customer in enumerate(customers)
    ]
