"""Whether the customer embedding helps the models that are fed it: with and without, side by side.

    python -m tests.benchmarks.embedding_inputs --json

The worlds of `tests.benchmarks.models`. An encoder is trained on the sessions that were over before
the test part of any model of its world began, and registered as the champion; each model is then
built, trained and judged twice, as retraining does it, once before and once after. Both sides have
the same rows, configuration and seeds; the interval of their difference on the test part is paired,
by customer.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np

from feature_repo.contracts.settings import Settings
from tests.benchmarks.machine import commit, hardware
from tests.benchmarks.models import SEED, WORLDS
from tests.training.embedding.registered import register_made
from tests.training.simulated import simulated_store, simulated_world
from training.configuration import load_config
from training.dataset import Examples
from training.embedding.config import NAME, EmbeddingConfig
from training.embedding.fitting import fit
from training.embedding.sequences import archived_sequences, instant_us
from training.evaluation.bootstrap import paired_interval
from training.evaluation.metrics import (
    AVERAGE_PRECISION,
    LOG_LOSS,
    MEAN_ABSOLUTE_ERROR,
    POISSON_DEVIANCE,
    ROC_AUC,
    TOP_1,
    Metric,
)
from training.judging import Trained
from training.models import model_named
from training.split import split_by_time

# Of each model, the one it is judged by first.
METRICS: dict[str, tuple[Metric, ...]] = {
    "call_within_day": (LOG_LOSS, AVERAGE_PRECISION, ROC_AUC),
    "payment_fraud": (AVERAGE_PRECISION, ROC_AUC),
    "next_intent": (LOG_LOSS, TOP_1),
    "customer_value": (POISSON_DEVIANCE, MEAN_ABSOLUTE_ERROR),
}
# Whose sessions teach the encoder: more were not needed, and take their time.
_TEACHERS = 8_000


@dataclass(frozen=True)
class Side:
    """A model as it is with, or without, the embedding."""

    examples: Examples
    trained: Trained


def built(settings: Settings, model: str) -> Examples:
    """The model's examples, with what embedding there is."""
    module = model_named(model)
    found: Examples = module.build(settings, None, None, load_config(module.Config, model))
    return found


def trained(examples: Examples, model: str) -> Side:
    """The model of these examples."""
    module = model_named(model)
    return Side(examples, module.train(examples, load_config(module.Config, model), print))


def judged_from_us(examples: Examples, model: str) -> int:
    """When the part begins on which a model is judged, less what its labels take."""
    config = load_config(model_named(model).Config, model)
    split = split_by_time(
        examples.dataset.frame["event_timestamp"],
        validation=config.validation_share,
        test=config.test_share,
        gap=config.gap,
    )
    return instant_us(split.test_start - config.gap)


def learn_encoder(settings: Settings, until_us: int, seed: int) -> dict[str, Any]:
    """Train an encoder on what was over by then, and let it serve; its figures."""
    known = archived_sequences(settings).until(until_us)
    rng = np.random.default_rng(seed)
    some = rng.permutation(len(known.customer_id))[:_TEACHERS]
    counts = np.zeros(len(known.customer_id), np.int64)
    counts[some] = np.diff(known.offsets)[some]
    taught = known.first(counts)
    began = time.perf_counter()
    fitted = fit(taught, load_config(EmbeddingConfig, NAME), until_us, report=print)
    register_made(settings, fitted.files, fitted.former)
    return {
        "customers": len(taught.customer_id),
        "sessions": len(taught.sessions),
        "training_s": round(time.perf_counter() - began, 1),
        "intent_loss": round(fitted.curve[-1].intent_loss, 4),
    }


def compared(model: str, without: Side, with_it: Side) -> dict[str, Any]:
    """Both sides on the same test rows."""
    ours, theirs = with_it.trained.held_out, without.trained.held_out
    np.testing.assert_array_equal(ours.target, theirs.target)
    np.testing.assert_array_equal(ours.clusters, theirs.clusters)
    frame = ours.frame
    found: dict[str, Any] = {
        "test_rows": len(ours.target),
        "with_a_vector": round(1 - frame["embedding"].null_count() / frame.height, 4),
        "trees": [int(side.trained.candidate.metrics["trees"]) for side in (without, with_it)],
    }
    for metric in METRICS[model]:
        apart = paired_interval(
            metric, ours.target, ours.prediction, theirs.prediction, ours.clusters,
            resamples=1_000, seed=SEED,
        )  # fmt: skip
        found[metric.name] = {
            "without": round(metric(theirs.target, theirs.prediction), 5),
            "with": round(metric(ours.target, ours.prediction), 5),
            "difference": [round(apart.low, 5), round(apart.high, 5)],
            "helps": apart.above_zero if metric.higher_is_better else apart.below_zero,
        }
    importance = with_it.trained.candidate.importance
    vector = importance.filter(importance["feature"].str.starts_with("embedding_"))
    found["share_of_gain"] = round(float(vector["share"].sum()), 4)
    return found


def world_of(home: Path, size: tuple[int, int], seed: int) -> Settings:
    """A simulated store, with a registry of its own."""
    settings = simulated_store(home, simulated_world(*size, seed))
    client = mlflow.MlflowClient(settings.mlflow_url)
    client.create_experiment(NAME, artifact_location=str(home / "artifacts"))
    return settings


def main(argv: Sequence[str]) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--seed", type=int, default=SEED, help="of the worlds")
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the worlds' customers: less is sooner done"
    )
    parser.add_argument("models", nargs="*", help="which; all by default")
    options = parser.parse_args(argv)
    # MLflow would draw a bar for each file that it reads.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    chosen = options.models or list(WORLDS)
    print(f"commit: {commit()}\nhardware: {hardware()}")
    found: dict[str, Any] = {
        "benchmark": "embedding_inputs", "seed": options.seed, "share": options.share
    }  # fmt: skip
    for size in dict.fromkeys(WORLDS[model] for model in chosen):
        customers, days = int(size[0] * options.share), size[1]
        models = [model for model in chosen if WORLDS[model] == size]
        print(f"world: {customers:,} customers, {days} days, seed {options.seed}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            settings = world_of(Path(folder), (customers, days), options.seed)
            without = {model: trained(built(settings, model), model) for model in models}
            until_us = min(judged_from_us(without[model].examples, model) for model in models)
            encoder = learn_encoder(settings, until_us, options.seed)
            print(f"encoder: {encoder}", flush=True)
            for model in models:
                with_it = trained(built(settings, model), model)
                found[model] = compared(model, without[model], with_it) | {"encoder": encoder}
                print(f"{model}: {found[model]}", flush=True)
    print(json.dumps(found) if options.json else found)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
