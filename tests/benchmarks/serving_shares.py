"""Where the time of a prediction goes: stages of the service timed in one process.

    python -m tests.benchmarks.serving_shares FILE

FILE is a JSON list of bodies. The last line gives µs of processor time a request for the store
(commands out, answers found), decoding (values, states, statuses), the model, and the service as a
whole, 64 requests at a time, without HTTP.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop

from feature_repo.contracts.settings import Settings
from feature_repo.engine.plain import PlainReader
from serving import stored_kernel, vector_turn
from serving.app import create_app
from serving.catalog import load_catalog
from serving.models import ServedModel
from serving.settings import ServingSettings
from serving.statuses import StatusTable
from serving.store_wire import StoreWire
from tests.benchmarks.serving_world import MODEL

_AT_A_TIME = 64
_ROUNDS = 5


class Stages:
    """Time in stages; a stage within another is not the other's."""

    def __init__(self) -> None:
        self.ns: dict[str, int] = {}
        self._stack: list[list[Any]] = []

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its own time counted."""

        def call(*args: Any, **options: Any) -> Any:
            entry = [time.perf_counter_ns(), 0]
            self._stack.append(entry)
            try:
                return function(*args, **options)
            finally:
                self._stack.pop()
                took = time.perf_counter_ns() - entry[0]
                self.ns[stage] = self.ns.get(stage, 0) + took - entry[1]
                if self._stack:
                    self._stack[-1][1] += took

        return call


def _instrument(stages: Stages) -> None:
    for stage, owner, name in (
        ("store", vector_turn.Turn, "send"),
        ("store", StoreWire, "buffer_updated"),
        ("rest", vector_turn.Turn, "_finish"),
        ("decoding", vector_turn.Turn, "_take"),
        ("decoding", vector_turn.Turn, "_decode"),
        ("decoding", stored_kernel, "decode"),
        ("decoding", stored_kernel, "spread"),
        ("decoding", stored_kernel, "share"),
        ("decoding", PlainReader, "evaluate"),
        ("decoding", StatusTable, "rows"),
        ("model", ServedModel, "score"),
    ):
        setattr(owner, name, stages.timed(stage, getattr(owner, name)))


async def _run(edge: Any, bodies: list[bytes]) -> None:
    rest = iter(bodies)

    async def one_after_the_other() -> None:
        for body in rest:
            status, _, _ = await edge.hot(MODEL, body, None, None)
            if status != 200:
                raise RuntimeError(f"a request was answered {status}")

    await asyncio.gather(*[one_after_the_other() for _ in range(_AT_A_TIME)])


async def measure(bodies: list[bytes]) -> dict[str, float]:
    """µs a request in each stage: the least of some rounds, as others use the core too."""
    from mlflow import MlflowClient

    settings = ServingSettings(Settings.from_env())
    url = settings.shared.mlflow_url
    edge = create_app(settings, load_catalog(settings.shared), MlflowClient(url, url))
    edge.service.champions.refresh()
    await _run(edge, bodies)
    whole = min([await _timed(edge, bodies) for _ in range(_ROUNDS)])
    stages = Stages()
    _instrument(stages)
    rounds = []
    for _ in range(_ROUNDS):
        stages.ns.clear()
        await _timed(edge, bodies)
        rounds.append({stage: ns / len(bodies) / 1e3 for stage, ns in stages.ns.items()})
    await edge.service.reader.connection.close()
    found = {stage: min(each[stage] for each in rounds) for stage in rounds[0] if stage != "rest"}
    return {**found, "service": whole}


async def _timed(edge: Any, bodies: list[bytes]) -> float:
    began_s = time.process_time()
    await _run(edge, bodies)
    return (time.process_time() - began_s) / len(bodies) * 1e6


def main(argv: list[str]) -> int:
    """Measure and print."""
    bodies = [body.encode() for body in json.loads(Path(argv[0]).read_text())]
    print(json.dumps(uvloop.run(measure(bodies))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
