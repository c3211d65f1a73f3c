"""Customer embeddings against their baselines on simulated worlds.

    python -m tests.benchmarks.embeddings --json

A world a seed, 60 days: what was known after 45 trains, sessions after that are judged whose
customers came back within a week. Every side tells the next session's intent as a session ends, and
all are judged on the same sessions; intervals are paired, by customer, over all seeds' customers.
Each seed also has a world in which balances have no effect, for the ablation. What was tuned was
tuned on worlds of seeds from 101.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression

from feature_repo.contracts.embeddings import CustomerState
from feature_repo.scoring.embedding import Encoder
from feature_repo.scoring.embedding_sessions import Ints
from tests.benchmarks.embedding_aggregates import trees_on_aggregates
from tests.benchmarks.embedding_decay import decayed_average
from tests.benchmarks.embedding_world import EmbeddingWorld, embedding_world
from tests.benchmarks.machine import commit, hardware
from training.configuration import load_config
from training.embedding.config import NAME, EmbeddingConfig
from training.embedding.fitting import Fitted, fit, vectors_of
from training.embedding.prepared import prepare
from training.evaluation.bootstrap import paired_interval
from training.evaluation.metrics import LOG_LOSS, MRR, TOP_1
from training.intents import INTENTS
from training.next_intent import markov, persistence

Floats = npt.NDArray[np.float64]

METRICS = (TOP_1, MRR, LOG_LOSS)
OURS, WITHOUT = "network", "gru_without_finance"
_UPDATES = 2_000


@dataclass(frozen=True)
class Judged:
    """A world's judged sessions: the truth, whose they are, and every side's chances."""

    target: Floats
    customer: Ints
    sides: dict[str, Floats]


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


def compared(worlds: Sequence[Judged], resamples: int = 1000) -> dict[str, Any]:
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
            metric.name: round(metric(target, chances), 4) for metric in METRICS
        }
        if name != OURS:
            for metric in METRICS:
                interval = paired_interval(
                    metric, target, sides[OURS], chances, clusters, resamples=resamples
                )
                figures[f"{metric.name}_ours_minus_theirs"] = [
                    round(interval.low, 4), round(interval.high, 4)
                ]  # fmt: skip
        found[name] = figures
    return found


def main(argv: Sequence[str]) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--customers", type=int, default=8_000)
    arguments = parser.parse_args(argv)
    print(f"commit: {commit()}\nhardware: {hardware()}", flush=True)
    config = load_config(EmbeddingConfig, NAME)
    bare = replace(config, snapshot=0)
    torch.set_num_threads(config.threads)
    planted: list[Judged] = []
    unplanted: list[Judged] = []
    by_seed: list[dict[str, Any]] = []
    speeds: list[float] = []
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        world = embedding_world(arguments.customers, seed)
        fitted, vectors = trained(world, config)
        speeds += [epoch.sessions_per_s for epoch in fitted.curve]
        sides = {OURS: chances_of(world, fitted, vectors), **simple_sides(world)}
        sides["decayed_average"] = decayed_average(world, fitted, config)
        sides[WITHOUT] = chances_of(world, *trained(world, bare))
        sides["lightgbm_aggregates"] = trees_on_aggregates(world)
        planted.append(_judged(world, sides))
        p50, p95 = update_ms(world, fitted)
        figures = {
            "seed": seed,
            **compared(planted[-1:], resamples=300),
            "personas_recovered": round(recovered(world, vectors), 4),
            "update_ms": {"p50": round(p50, 3), "p95": round(p95, 3)},
        }
        none = embedding_world(arguments.customers, seed, finance=0.0)
        unplanted.append(
            _judged(
                none,
                {
                    name: chances_of(none, *trained(none, each))
                    for name, each in ((OURS, config), (WITHOUT, bare))
                },
            )
        )
        figures["no_effect"] = compared(unplanted[-1:], resamples=300)
        by_seed.append(figures)
        print(json.dumps(figures), flush=True)
    found = {
        "benchmark": "embeddings",
        "seeds": arguments.seeds,
        "customers": arguments.customers,
        "next_intent": compared(planted),
        "next_intent_without_planted_finance": compared(unplanted),
        "personas_recovered": statistics.median(each["personas_recovered"] for each in by_seed),
        "training_sessions_per_s": {
            "median": round(statistics.median(speeds)), "least": round(min(speeds))
        },
        "update_ms_p50": statistics.median(each["update_ms"]["p50"] for each in by_seed),
        "by_seed": by_seed,
    }  # fmt: skip
    print(json.dumps(found) if arguments.json else found)
    return 0


def _judged(world: EmbeddingWorld, sides: dict[str, Floats]) -> Judged:
    return Judged(
        world.following[world.judged].astype(float),
        world.sequences.customer[world.judged],
        sides,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
