"""Customer embeddings against their baselines on simulated worlds.

    python -m tests.benchmarks.embeddings [--json] [--processes N]

A world a seed, 60 days: what was known after 45 trains, sessions after that are judged whose
customers came back within a week. Every side tells the next session's intent as a session ends, and
all are judged on the same sessions; intervals are paired, by customer, over all seeds' customers.
Each seed also has a world, half as large, in which balances have no effect, for the ablation.
Linear heads on the frozen vectors and on the aggregates tell calls and fraud (`embedding_tasks`).
What was tuned was tuned on the world of seed 101. Speeds are true where nothing else runs: with one
process.

The real clicks: `python -m tests.benchmarks.embedding_clicks`; the 90-day value:
`python -m tests.benchmarks.embedding_value`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression

from feature_repo.contracts.embeddings import CustomerState
from feature_repo.scoring.embedding import Encoder
from feature_repo.scoring.embedding_sessions import Ints
from tests.benchmarks.embedding_aggregates import aggregates_of, trees_on_aggregates
from tests.benchmarks.embedding_decay import decayed_average
from tests.benchmarks.embedding_gru import plain_gru
from tests.benchmarks.embedding_tasks import tasks_of
from tests.benchmarks.embedding_world import EmbeddingWorld, embedding_world
from tests.benchmarks.machine import commit, hardware
from training.configuration import load_config
from training.embedding.config import NAME, EmbeddingConfig
from training.embedding.fitting import Fitted, fit, vectors_of
from training.embedding.prepared import prepare
from training.evaluation.bootstrap import paired_interval
from training.evaluation.metrics import AVERAGE_PRECISION, LOG_LOSS, MRR, TOP_1, Metric
from training.intents import INTENTS
from training.next_intent import markov, persistence

Floats = npt.NDArray[np.float64]

METRICS = (TOP_1, MRR, LOG_LOSS)
OURS, WITHOUT = "network", "network_without_finance"
_UPDATES = 2_000


@dataclass(frozen=True)
class Judged:
    """Judged sessions of a world: the truth, whose they are, and every side's chances."""

    target: Floats
    customer: Ints
    sides: dict[str, Floats]

    @classmethod
    def of(cls, world: EmbeddingWorld, sides: dict[str, Floats]) -> Judged:
        """The next intents of a world."""
        judged = world.judged
        return cls(world.following[judged].astype(float), world.sequences.customer[judged], sides)


@dataclass(frozen=True)
class Seed:
    """What one seed's worlds gave: judged sessions by question, and other figures."""

    seed: int
    judged: dict[str, Judged]
    personas: float
    update_ms: tuple[float, float]
    sessions_per_s: list[float]


def chances_of(world: EmbeddingWorld, fitted: Fitted, vectors: npt.NDArray[Any]) -> Floats:
    """The network's own: a linear head on the vector, (judged, classes)."""
    with torch.inference_mode():
        told = fitted.learner.heads.intent(torch.from_numpy(vectors[world.judged]))
        return np.asarray(told.double().softmax(1).numpy())


def trained(world: EmbeddingWorld, config: EmbeddingConfig) -> tuple[Fitted, npt.NDArray[Any]]:
    """A network of what was known, and the vector after each session of the whole world."""
    fitted = fit(world.known, config, world.known_us)
    return fitted, vectors_of(fitted.learner, prepare(fitted.book, world.sequences), config)


def simple_sides(world: EmbeddingWorld) -> dict[str, Floats]:
    """What looks at the session that ends, or at nothing."""
    current = world.sequences.intent.astype(float)
    before, after = current[world.learnt], world.following[world.learnt].astype(float)
    now = world.sequences.intent[world.judged]
    shares = np.bincount(world.following[world.learnt], minlength=len(INTENTS)) / len(after)
    return {
        "most_frequent": np.tile(shares, (len(now), 1)),
        "last_intent": persistence(before, after)[now],
        "markov": markov(before, after)[now],
    }


def recovered(world: EmbeddingWorld, vectors: npt.NDArray[Any]) -> float:
    """The share of planted personas that a linear probe of half the customers tells of the rest."""
    last = vectors[world.sequences.offsets[1:] - 1]
    persona = world.persona.to_numpy()
    order = np.random.default_rng(0).permutation(len(last))
    seen, unseen = np.split(order, [len(order) // 2])
    probe = LogisticRegression(C=100.0, max_iter=1_000).fit(last[seen], persona[seen])
    return float((probe.predict(last[unseen]) == persona[unseen]).mean())


def update_ms(world: EmbeddingWorld, fitted: Fitted) -> tuple[float, float]:
    """p50 and p95 of one session into one stored state, through ONNX, bytes in and bytes out."""
    encoder = Encoder(fitted.files)
    sequences = world.sequences
    firsts = set(sequences.offsets[:-1].tolist())
    taken: list[float] = []
    raw: bytes | None = None
    for row in range(min(_UPDATES, len(sequences.intent))):
        if row in firsts:
            raw = None
        session = sequences.sessions.at(np.array([row]))
        began = time.perf_counter()
        state = None if raw is None else CustomerState.from_bytes(raw, encoder.version)
        state, _ = encoder.update(state, session)
        raw = state.to_bytes()
        taken.append(1e3 * (time.perf_counter() - began))
    return float(np.percentile(taken, 50)), float(np.percentile(taken, 95))


def compared(
    worlds: Sequence[Judged], metrics: Sequence[Metric] = METRICS, resamples: int = 1000
) -> dict[str, Any]:
    """Every side's figures over all worlds, and intervals of ours - theirs by customer."""
    target = np.concatenate([world.target for world in worlds])
    clusters = np.concatenate(
        [world.customer + (number << 32) for number, world in enumerate(worlds)]
    )
    sides = {
        name: np.concatenate([world.sides[name] for world in worlds]) for name in worlds[0].sides
    }
    found: dict[str, Any] = {"sessions": len(target), "customers": len(np.unique(clusters))}
    for name, chances in sides.items():
        figures: dict[str, Any] = {
            metric.name: round(metric(target, chances), 4) for metric in metrics
        }
        if name != OURS:
            for metric in metrics:
                interval = paired_interval(
                    metric, target, sides[OURS], chances, clusters, resamples=resamples
                )
                figures[f"{metric.name}_ours_minus_theirs"] = [
                    round(interval.low, 4), round(interval.high, 4)
                ]  # fmt: skip
        found[name] = figures
    return found


def one_seed(seed: int, customers: int) -> Seed:
    """Everything of one seed."""
    config = load_config(EmbeddingConfig, NAME)
    bare = replace(config, snapshot=0)
    torch.set_num_threads(config.threads)
    world = embedding_world(customers, seed)
    fitted, vectors = trained(world, config)
    counted = aggregates_of(world.sequences, world.known)
    sides = {OURS: chances_of(world, fitted, vectors), **simple_sides(world)}
    sides["decayed_average"] = decayed_average(world, fitted, config)
    sides["gru"] = plain_gru(world, config)
    sides[WITHOUT] = chances_of(world, *trained(world, bare))
    sides["lightgbm_aggregates"] = trees_on_aggregates(world, counted.values)
    judged = {"next_intent": Judged.of(world, sides)}
    linear = counted.linear()
    for name, task in tasks_of(world).items():
        heads = {OURS: task.told_by(vectors), "aggregates": task.told_by(linear)}
        whose = world.sequences.customer[task.judged]
        judged[name] = Judged(task.target[task.judged], whose, heads)
    none = embedding_world(customers // 2, seed, finance=0.0)
    judged["next_intent_without_planted_finance"] = Judged.of(
        none,
        {
            name: chances_of(none, *trained(none, each))
            for name, each in ((OURS, config), (WITHOUT, bare))
        },
    )
    found = Seed(
        seed,
        judged,
        recovered(world, vectors),
        update_ms(world, fitted),
        [epoch.sessions_per_s for epoch in fitted.curve],
    )
    print(json.dumps(figures_of([found], resamples=200)), flush=True)
    return found


def figures_of(seeds: Sequence[Seed], resamples: int = 1000) -> dict[str, Any]:
    """All figures, over some seeds together."""
    speeds = [speed for seed in seeds for speed in seed.sessions_per_s]
    return {
        "seeds": [seed.seed for seed in seeds],
        **{
            question: compared(
                [seed.judged[question] for seed in seeds],
                METRICS if question.startswith("next_intent") else (AVERAGE_PRECISION,),
                resamples,
            )
            for question in seeds[0].judged
        },
        "personas_recovered": [round(seed.personas, 4) for seed in seeds],
        "training_sessions_per_s": {"median": round(median(speeds)), "least": round(min(speeds))},
        "update_ms": {
            name: round(median(seed.update_ms[place] for seed in seeds), 3)
            for place, name in enumerate(("p50", "p95"))
        },
    }


def main(argv: Sequence[str]) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--customers", type=int, default=8_000)
    parser.add_argument("--processes", type=int, default=1, help="seeds at a time")
    arguments = parser.parse_args(argv)
    print(f"commit: {commit()}\nhardware: {hardware()}", flush=True)
    numbers = range(arguments.first, arguments.first + arguments.seeds)
    work = partial(one_seed, customers=arguments.customers)
    if arguments.processes > 1:
        with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
            seeds = pool.map(work, numbers, chunksize=1)
    else:
        seeds = [work(seed) for seed in numbers]
    found = {
        "benchmark": "embeddings",
        "customers": arguments.customers,
        "processes": arguments.processes,
        **figures_of(seeds),
    }
    print(json.dumps(found) if arguments.json else found)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
