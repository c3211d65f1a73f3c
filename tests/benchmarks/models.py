"""Models of calls, fraud, intents and value on simulated worlds: figures against their baselines.

    python -m tests.benchmarks.models --json

Three worlds with fixed seeds: 20,000 customers on 45 days for calls and intents; 10,000 on 100 days
for fraud, whose labels take ten days; 2,000 on 450 days for the 90-day value, whose train,
validation and test snapshots lie 90 days apart.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from feature_repo.contracts.settings import Settings
from tests.benchmarks.machine import commit, hardware
from tests.training.simulated import simulated_store, simulated_world
from training.configuration import load_config
from training.models import model_named

SEED = 7
WORLDS: dict[str, tuple[int, int]] = {
    "call_within_day": (20_000, 45),
    "payment_fraud": (10_000, 100),
    "next_intent": (20_000, 45),
    "customer_value": (2_000, 450),
}


def judged(settings: Settings, model: str) -> dict[str, Any]:
    """Build, train and judge one model; its figures."""
    module = model_named(model)
    config = load_config(module.Config, model)
    began = time.perf_counter()
    examples = module.build(settings, None, None, config)
    built_s = time.perf_counter() - began
    began = time.perf_counter()
    trained = module.train(examples, config, print)
    trained_s = time.perf_counter() - began
    return {
        "beats": trained.beats_baseline,
        "verdict": trained.verdict,
        "dataset_s": round(built_s, 1),
        "training_s": round(trained_s, 1),
        **{name: round(value, 6) for name, value in trained.candidate.metrics.items()},
    }


def main(argv: Sequence[str]) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("models", nargs="*", help="which; all by default")
    arguments = parser.parse_args(argv)
    print(f"commit: {commit()}\nhardware: {hardware()}")
    found: dict[str, Any] = {"benchmark": "models", "seed": SEED}
    stores: dict[tuple[int, int], Settings] = {}
    with tempfile.TemporaryDirectory() as folder:
        for model, (customers, days) in WORLDS.items():
            if arguments.models and model not in arguments.models:
                continue
            if (customers, days) not in stores:
                print(f"world: {customers:,} customers, {days} days, seed {SEED}", flush=True)
                home = Path(folder, f"{customers}-{days}")
                stores[customers, days] = simulated_store(
                    home, simulated_world(customers, days, SEED)
                )
            found[model] = judged(stores[customers, days], model)
            print(f"{model}: {found[model]}", flush=True)
    print(json.dumps(found) if arguments.json else found)
    return 0 if all(found[model]["beats"] for model in WORLDS if model in found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
