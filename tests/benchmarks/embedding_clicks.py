"""The embedding network on real clicks: how does a reader come to the next session?

    python -m tests.benchmarks.embedding_clicks [--json]

A news portal's sessions as the source gives them (17 days); the publisher's imputed clicks are
dropped before anything else. Of each session: clicks, when, on what device, and the referrer's
type (of its first click), which is what a session "was for" here. Trained on what was over after
twelve days; judged on the sessions that ended later and were followed by another. Against the
persistence baseline (the next session's type is this one's), a first-order Markov chain, and
persistence of the reader's commonest type; intervals are paired, by reader. Configuration as of
simulated worlds, but for the balances, which clicks have not. Needs
`../shared/data/clickstream_globo` (research and education only).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from feature_repo.contracts.events import EventType
from feature_repo.scoring.embedding_sessions import Names, Sessions
from tests.benchmarks.machine import commit, hardware
from tests.benchmarks.replay import CLICKS, ROOT
from training.configuration import load_config
from training.embedding.config import NAME, EmbeddingConfig
from training.embedding.fitting import Fitted, fit, vectors_of
from training.embedding.prepared import prepare
from training.embedding.sequences import Sequences, instant_us
from training.evaluation.bootstrap import paired_interval
from training.evaluation.metrics import LOG_LOSS, MRR, TOP_1
from training.intents import INTENTS
from training.next_intent import markov

Floats = npt.NDArray[np.float64]

KNOWN = datetime(2017, 10, 13, tzinfo=UTC)
# Later clicks are a thin tail of a month.
END = datetime(2017, 10, 17, 6, tzinfo=UTC)
OURS = "network"
# Four times the sessions of a simulated world, of few clicks each.
_EPOCHS = 6
_TYPE = "click_referrer_type"


def click_sequences() -> Sequences:
    """All readers' sessions; a type of referrer takes the place of an intent.

    As many types as INTENTS: the network's head is as wide.
    """
    clicks = (
        pl.scan_parquet(CLICKS)
        .filter(~pl.col("ts_imputed"), pl.col("click_ts") < END)
        .with_columns(time=pl.col("click_ts").dt.epoch("us"))
        .with_columns(begin=pl.col("time").min().over("session_id"))
        .sort("user_id", "begin", "session_id", "time", maintain_order=True)
        .with_columns(pl.col(_TYPE).cast(pl.String))
        .with_columns(
            page=pl.concat_str(_TYPE, "click_environment", "click_deviceGroup", separator="/"),
            country=pl.col("click_country").cast(pl.String),
            system=pl.col("click_os").cast(pl.String),
        )
        .collect()
    )
    by_session = clicks.group_by("user_id", "session_id", maintain_order=True).agg(
        pl.len(), kind=pl.col(_TYPE).first()
    )
    kinds = by_session["kind"].n_unique()
    if kinds > len(INTENTS):
        raise SystemExit(f"{kinds} types of referrer, at most {len(INTENTS)} fit")
    readers = by_session.group_by("user_id", maintain_order=True).agg(pl.len())
    count, nothing = clicks.height, np.zeros(0)
    return Sequences(
        readers["user_id"].cast(pl.String),
        _offsets(readers["len"]),
        Sessions(
            _offsets(by_session["len"]),
            clicks["time"].to_numpy(),
            Names(np.zeros(count, np.int32), (str(EventType.PAGE_VIEW),)),
            _names(clicks["page"]),
            np.full(count, np.nan),
            _names(clicks["country"]),
            _names(clicks["system"]),
            np.zeros(by_session.height + 1, np.int64),
            nothing.astype(np.int64),
            nothing,
        ),
        _names(by_session["kind"]).codes.astype(np.int64),
    )


def commonest(sequences: Sequences) -> Floats:
    """Chances that go by each reader's types up to the session: (sessions, classes)."""
    told = np.eye(len(INTENTS))[sequences.intent]
    sums = np.vstack([np.zeros((1, len(INTENTS))), np.cumsum(told, axis=0)])
    own = sums[1:] - sums[sequences.offsets[:-1]][sequences.customer]
    # Of two that are as common, the one that was last.
    own += 0.5 * told + 1e-3
    return np.asarray(own / own.sum(axis=1, keepdims=True))


def chances_of(fitted: Fitted, sequences: Sequences, config: EmbeddingConfig) -> Floats:
    """The network's, after each session: (sessions, classes)."""
    vectors = vectors_of(fitted.learner, prepare(fitted.book, sequences), config)
    with torch.inference_mode():
        told = fitted.learner.heads.intent(torch.from_numpy(vectors))
        return np.asarray(told.double().softmax(1).numpy())


def judged(sequences: Sequences, config: EmbeddingConfig) -> dict[str, Any]:
    """Train, and compare on what came later."""
    known_us = instant_us(KNOWN)
    customer, intent = sequences.customer, sequences.intent
    again = np.append(customer[1:] == customer[:-1], False)
    stays = (intent[1:] == intent[:-1])[again[:-1]]
    known = np.flatnonzero(again[:-1] & (sequences.over_us[1:] <= known_us))
    rows = np.flatnonzero(again & (sequences.sessions.end_us >= known_us))
    fitted = fit(sequences.until(known_us), config, known_us, report=print)
    target = intent[rows + 1].astype(float)
    chain = markov(intent[known].astype(float), intent[known + 1].astype(float))
    sides = {
        OURS: chances_of(fitted, sequences, config)[rows],
        "persistence": 0.98 * np.eye(len(INTENTS))[intent[rows]] + 0.02 / len(INTENTS),
        "markov": chain[intent[rows]],
        "commonest": commonest(sequences)[rows],
    }
    found: dict[str, Any] = {
        "sessions": len(intent),
        "readers": len(sequences.customer_id),
        "judged": len(rows),
        "judged_readers": len(np.unique(customer[rows])),
        "persistence_of_all_pairs": round(float(stays.mean()), 4),
        "training_sessions_per_s": round(
            float(np.median([e.sessions_per_s for e in fitted.curve]))
        ),
    }
    for name, chances in sides.items():
        metrics = (TOP_1, MRR) if name in {"persistence", "commonest"} else (TOP_1, MRR, LOG_LOSS)
        found[name] = {metric.name: round(metric(target, chances), 4) for metric in metrics}
        if name != OURS:
            for metric in metrics:
                interval = paired_interval(
                    metric, target, sides[OURS], chances, customer[rows], resamples=1000
                )
                found[name][f"{metric.name}_ours_minus_theirs"] = [
                    round(interval.low, 4), round(interval.high, 4)
                ]  # fmt: skip
    return found


def _offsets(counts: pl.Series) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts.to_numpy())]).astype(np.int64)


def _names(column: pl.Series) -> Names:
    known = column.unique().sort().to_list()
    codes = column.replace_strict(known, list(range(len(known))), return_dtype=pl.Int32)
    return Names(codes.to_numpy(), tuple(known))


def main(argv: Sequence[str]) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    arguments = parser.parse_args(argv)
    print(f"commit: {commit()}\nhardware: {hardware()}", flush=True)
    if not CLICKS.is_file():
        found: dict[str, Any] = {"skipped": f"{CLICKS.relative_to(ROOT.parent)} is not there"}
    else:
        config = replace(load_config(EmbeddingConfig, NAME), snapshot=0, epochs=_EPOCHS)
        torch.set_num_threads(config.threads)
        found = judged(click_sequences(), config)
    found = {"benchmark": "embedding_clicks", **found}
    print(json.dumps(found) if arguments.json else found)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
