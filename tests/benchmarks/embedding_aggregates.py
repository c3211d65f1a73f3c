"""LightGBM on what one would count by hand of a customer's sessions, as each session ends."""

from __future__ import annotations

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from feature_repo.scoring.embedding_inputs import log_balances
from feature_repo.scoring.embedding_sessions import Ints
from tests.benchmarks.embedding_world import EmbeddingWorld
from training.embedding.codebook import learn_codebook
from training.embedding.prepared import prepare
from training.intents import INTENTS

Floats = npt.NDArray[np.float64]

_DAY_US = 86_400_000_000
_FORGOTTEN_DAYS = (2.0, 7.0, 30.0)
_BACK = 3
_CLASSES = len(INTENTS)
_PARAMS = {
    "objective": "multiclass", "num_class": _CLASSES, "num_leaves": 15, "learning_rate": 0.1,
    "min_data_in_leaf": 100, "feature_fraction": 0.5, "lambda_l2": 10.0, "verbose": -1, "seed": 7,
    "num_threads": 1, "deterministic": True,
}  # fmt: skip


def trees_on_aggregates(world: EmbeddingWorld) -> Floats:
    """Chances of the judged sessions' next intents, (judged, classes): stopped on the latest fifth
    of what is learnt from."""
    rows = aggregates(world)
    learnt = world.learnt[np.argsort(world.sequences.sessions.end_us[world.learnt], kind="stable")]
    early, late = np.split(learnt, [int(0.8 * len(learnt))])
    sets = [lgb.Dataset(rows[part], world.following[part]) for part in (early, late)]
    booster = lgb.train(
        _PARAMS,
        sets[0],
        num_boost_round=400,
        valid_sets=[sets[1]],
        callbacks=[lgb.early_stopping(20, verbose=False)],
    )
    return np.asarray(booster.predict(rows[world.judged], num_threads=1))


def aggregates(world: EmbeddingWorld) -> Floats:
    """A row a session: (sessions, inputs).

    The intents of the last sessions and days since each intent; its share in all sessions, and in
    those of the last days, weeks and month (decayed); the session's length, events, amount,
    corridor, hour (UTC and of the country) and weekday; how often and how regularly the customer
    came; the balance, against the one before and the customer's means.
    """
    sequences = world.sequences
    sessions, intent = sequences.sessions, sequences.intent
    customer = sequences.customer
    count = len(intent)
    place = np.arange(count) - sequences.offsets[:-1][customer]
    start, end = sessions.start_us, sessions.end_us
    book = learn_codebook(world.known, least_seen=20, most_pages=126)
    prepared = prepare(book, sequences)
    columns: list[npt.NDArray[np.float64]] = []
    for back in range(_BACK):
        before = np.where(place >= back, np.roll(intent, back), -1).astype(float)
        began = np.where(place > back, np.roll(start, back) - np.roll(end, back + 1), np.nan)
        columns += [before, began / _DAY_US]
    amount = np.maximum.reduceat(np.nan_to_num(sessions.amount_ref_minor), sessions.offsets[:-1])
    columns += [
        (end - start).astype(float), np.diff(sessions.offsets).astype(float), amount,
        prepared.corridor.astype(float), place.astype(float),
        (end - start[sequences.offsets[:-1]][customer]) / _DAY_US,
    ]  # fmt: skip
    shown = np.diff(sessions.snapshot_offsets) > 0
    last_shot = np.maximum(sessions.snapshot_offsets[1:] - 1, 0)
    balance = np.where(shown, log_balances(sessions.snapshot_balance)[last_shot], np.nan)
    return np.column_stack(
        [*columns, prepared.times, _running(world, place, balance), balance, amount > 0]
    )


def _running(world: EmbeddingWorld, place: Ints, balance: Floats) -> Floats:
    """What runs along a customer's sessions: (sessions, ...)."""
    sequences = world.sequences
    intent, end = sequences.intent, sequences.sessions.end_us
    decays = np.array(_FORGOTTEN_DAYS)
    people = len(sequences.customer_id)
    counts, faded = np.zeros((people, _CLASSES)), np.zeros((people, len(decays), _CLASSES))
    last = np.full((people, _CLASSES), np.nan)
    means, weights = np.zeros((people, len(decays) + 1)), np.zeros((people, len(decays) + 1))
    before, known = np.zeros(people, dtype=np.int64), np.full(people, np.nan)
    width = _CLASSES * (2 + len(decays)) + len(decays) + 2 * (len(decays) + 1) + 1
    found = np.empty((len(intent), width))
    order = np.argsort(place, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(place[order])) + 1):
        who = sequences.customer[rows]
        days = np.where(place[rows] > 0, end[rows] - before[who], 0) / _DAY_US
        kept = np.exp(-days[:, None] / decays)
        counts[who, intent[rows]] += 1
        faded[who] *= kept[..., None]
        faded[who, :, intent[rows]] += 1
        last[who, intent[rows]] = end[rows]
        there = ~np.isnan(balance[rows])
        new = np.where(there, balance[rows], 0.0)[:, None]
        weights[who] = weights[who] * np.c_[kept, np.ones(len(rows))] + there[:, None]
        share = there[:, None] / np.maximum(weights[who], 1e-9)
        means[who] += (new - means[who]) * share
        found[rows] = np.concatenate(
            [
                counts[who] / counts[who].sum(1, keepdims=True),
                (faded[who] / faded[who].sum(2, keepdims=True)).reshape(len(rows), -1),
                faded[who].sum(2),
                (end[rows][:, None] - last[who]) / _DAY_US,
                means[who],
                balance[rows][:, None] - means[who],
                (balance[rows] - known[who])[:, None],
            ],
            axis=1,
        )
        before[who] = end[rows]
        known[who] = np.where(there, balance[rows], known[who])
    return found
