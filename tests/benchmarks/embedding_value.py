"""The 90-day value from frozen vectors, against hand-made aggregates: linear heads on both.

    python -m tests.benchmarks.embedding_value [--json] [--seeds N]

A world a seed of 2,500 customers and 240 days. The encoder learns from the first 60 days alone;
the heads (ridge, on the logarithm of one and what is sent in the next 90 days) from every customer
with a session by day 60, and are judged on day 150, when that answer has come. Spearman's rank
correlation, and the share of the spread of logarithms that is told (R2). "own rate" is what the
customer sent before, a day.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from scipy.stats import spearmanr
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from feature_repo.contracts.events import EventType
from feature_repo.scoring.embedding_sessions import Ints
from tests.benchmarks.embedding_aggregates import aggregates_of
from tests.benchmarks.machine import commit, hardware
from tests.training.simulated import FIRST_DAY, events_of, simulated_world
from training.configuration import load_config
from training.embedding.config import NAME, EmbeddingConfig
from training.embedding.fitting import fit, vectors_of
from training.embedding.prepared import prepare
from training.embedding.sequences import Sequences, instant_us, sequences_of

Floats = npt.NDArray[np.float64]
Inputs = npt.NDArray[Any]

CUSTOMERS, DAYS = 2_500, 240
LEARNT_DAY, JUDGED_DAY, AHEAD_DAYS = 60, 150, 90
_DAY_US = 86_400_000_000
_PENALTIES = np.logspace(-1, 5, 13)


def last_rows(sequences: Sequences, at_us: int) -> tuple[Ints, Ints]:
    """Who had a finished session by an instant, and the row of the last one: (customers,) each."""
    over = sequences.over_us <= at_us
    counts = np.bincount(sequences.customer[over], minlength=len(sequences.customer_id))
    there = np.flatnonzero(counts)
    return there, sequences.offsets[there] + counts[there] - 1


def sent(sequences: Sequences, events: pl.DataFrame, first_us: int, last_us: int) -> Floats:
    """What each customer's confirmed payments come to between two instants: (customers,) USD."""
    time = pl.col("event_time").dt.epoch("us")
    by_customer = (
        events.filter(
            (pl.col("event_type") == str(EventType.PAYMENT_CONFIRMED))
            & (time >= first_us)
            & (time < last_us)
        )
        .group_by("customer_id")
        .agg(usd=pl.col("amount_ref_minor").sum() / 100)
    )
    rows = sequences.customer_id.to_frame("customer_id").join(
        by_customer, on="customer_id", how="left", maintain_order="left"
    )
    return rows["usd"].fill_null(0.0).to_numpy()


def one_seed(seed: int, customers: int) -> dict[str, Any]:
    """Both heads on one world."""
    events = events_of(simulated_world(customers, DAYS, seed))
    sequences = sequences_of(events)
    begin_us = instant_us(FIRST_DAY)
    learnt_us, judged_us = (
        instant_us(FIRST_DAY + timedelta(days=day)) for day in (LEARNT_DAY, JUDGED_DAY)
    )
    config = load_config(EmbeddingConfig, NAME)
    known = sequences.until(learnt_us)
    fitted = fit(known, config, learnt_us)
    vectors = vectors_of(fitted.learner, prepare(fitted.book, sequences), config)
    sides = {"network": vectors, "aggregates": aggregates_of(sequences, known).linear()}
    days: dict[int, tuple[Ints, Ints, Floats]] = {}
    for at_us in (learnt_us, judged_us):
        who, rows = last_rows(sequences, at_us)
        value = sent(sequences, events, at_us, at_us + AHEAD_DAYS * _DAY_US)[who]
        days[at_us] = who, rows, value
    who, rows, value = days[judged_us]
    rate = sent(sequences, events, begin_us, judged_us)[who] / JUDGED_DAY
    told = {"own_rate": np.log1p(AHEAD_DAYS * rate)}
    _, learnt, target = days[learnt_us]
    for name, inputs in sides.items():
        head = make_pipeline(StandardScaler(), RidgeCV(_PENALTIES))
        head.fit(_with_silence(inputs, sequences, learnt, learnt_us), np.log1p(target))
        told[name] = head.predict(_with_silence(inputs, sequences, rows, judged_us))
    return {
        "seed": seed,
        "customers": len(who),
        **{
            name: {
                "spearman": round(float(spearmanr(side, value).statistic), 4),
                "r2_of_logarithms": round(float(r2_score(np.log1p(value), side)), 4),
            }
            for name, side in told.items()
        },
    }


def _with_silence(inputs: Inputs, sequences: Sequences, rows: Ints, at_us: int) -> Inputs:
    """Some sessions' inputs, and how long ago each was, which none of them can know."""
    days = (at_us - sequences.sessions.end_us[rows]) / _DAY_US
    return np.column_stack([inputs[rows], np.log1p(days)])


def main(argv: Sequence[str]) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    arguments = parser.parse_args(argv)
    print(f"commit: {commit()}\nhardware: {hardware()}", flush=True)
    torch.set_num_threads(1)
    by_seed = []
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        by_seed.append(one_seed(seed, arguments.customers))
        print(json.dumps(by_seed[-1]), flush=True)
    medians = {
        side: {
            metric: float(np.median([each[side][metric] for each in by_seed]))
            for metric in ("spearman", "r2_of_logarithms")
        }
        for side in ("network", "aggregates", "own_rate")
    }
    found = {"benchmark": "embedding_value", "medians": medians, "by_seed": by_seed}
    print(json.dumps(found) if arguments.json else found)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
