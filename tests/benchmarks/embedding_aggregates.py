"""What one would count by hand of a customer's sessions, and LightGBM and a linear model on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from feature_repo.scoring.embedding_inputs import FIRST_NAME, log_balances
from feature_repo.scoring.embedding_sessions import Ints
from tests.benchmarks.embedding_world import EmbeddingWorld
from training.embedding.codebook import learn_codebook
from training.embedding.prepared import Prepared, prepare
from training.embedding.sequences import Sequences
from training.intents import INTENTS

Floats = npt.NDArray[np.float64]

_DAY_US = 86_400_000_000
_FORGOTTEN_DAYS = (2.0, 7.0, 30.0)
_BACK = 3
_CLASSES = len(INTENTS)
# Where `times` says what hour of the country's day it is, on a circle.
_LOCAL_HOUR = slice(6, 8)
_PARAMS = {
    "objective": "multiclass", "num_class": _CLASSES, "num_leaves": 15, "learning_rate": 0.1,
    "min_data_in_leaf": 100, "feature_fraction": 0.5, "lambda_l2": 10.0, "verbose": -1, "seed": 7,
    "num_threads": 1, "deterministic": True,
}  # fmt: skip


@dataclass(frozen=True)
class Aggregates:
    """A row a session, as it ends.

    Attributes:
        values: (sessions, inputs), NaN where there is none.
        codes: which columns are codes of names, and no amounts.
    """

    values: Floats
    codes: tuple[int, ...]

    def linear(self) -> npt.NDArray[np.float32]:
        """As a linear model wants them: a column a code, logarithms of what has long tails, and
        columns that say where there is none."""
        parts = []
        for column in self.codes:
            code = np.nan_to_num(self.values[:, column], nan=-1)
            parts.append(code[:, None] == np.unique(code))
        rest = np.delete(self.values, self.codes, axis=1)
        missing = np.isnan(rest)
        long = np.nanmax(np.abs(rest), axis=0) > 20
        rest = np.where(long, np.sign(rest) * np.log1p(np.abs(rest)), rest)
        parts += [np.nan_to_num(rest), missing[:, missing.any(axis=0)]]
        return np.concatenate(parts, axis=1, dtype=np.float32)


def trees_on_aggregates(world: EmbeddingWorld, rows: Floats) -> Floats:
    """Chances of the judged sessions' next intents, (judged, classes): stopped on the latest fifth
    of what is learnt from."""
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


def aggregates_of(sequences: Sequences, known: Sequences) -> Aggregates:
    """Count; `known`, the earlier part, says which corridors have a code.

    - Of the last sessions: intents, and days between them. Of each intent: days since, its share in
      all sessions and in those of the last days, weeks and month (decayed).
    - Of the session: length, seconds an event, events of each type, largest amount, corridor, hour
      (UTC and of the country), weekday; each of these numbers against the customer's own mean
      before it.
    - How often and how regularly the customer came, since when; the balance, against the one before
      and the customer's means (all, and decayed).
    """
    sessions, intent = sequences.sessions, sequences.intent
    customer = sequences.customer
    count = len(intent)
    place = np.arange(count) - sequences.offsets[:-1][customer]
    start, end = sessions.start_us, sessions.end_us
    book = learn_codebook(known, least_seen=20, most_pages=126)
    prepared = prepare(book, sequences)
    columns: list[npt.NDArray[np.float64]] = []
    for back in range(_BACK):
        before = np.where(place >= back, np.roll(intent, back), -1).astype(float)
        began = np.where(place > back, np.roll(start, back) - np.roll(end, back + 1), np.nan)
        columns += [before, began / _DAY_US]
    columns += [
        prepared.corridor.astype(float), np.diff(sessions.offsets).astype(float),
        place.astype(float), (end - start[sequences.offsets[:-1]][customer]) / _DAY_US,
    ]  # fmt: skip
    codes = (*range(0, 2 * _BACK, 2), 2 * _BACK)
    shown = np.diff(sessions.snapshot_offsets) > 0
    last_shot = np.maximum(sessions.snapshot_offsets[1:] - 1, 0)
    balance = np.where(shown, log_balances(sessions.snapshot_balance)[last_shot], np.nan)
    numbers = _numbers(sequences, prepared)
    values = np.column_stack(
        [
            *columns, prepared.times, balance, numbers,
            _running(sequences, place, balance), _against_own_mean(sequences, place, numbers),
        ]
    )  # fmt: skip
    return Aggregates(values, codes)


def _numbers(sequences: Sequences, prepared: Prepared) -> Floats:
    """What one session is by itself, NaN where it has none: (sessions, ...)."""
    sessions = sequences.sessions
    first, sizes = sessions.offsets[:-1], np.diff(sessions.offsets)
    length_s = (sessions.end_us - sessions.start_us) / 1_000_000
    amount = np.maximum.reduceat(np.nan_to_num(sessions.amount_ref_minor), first)
    types = np.arange(FIRST_NAME, FIRST_NAME + len(sessions.event_type.names) + FIRST_NAME)
    of_type = np.add.reduceat(prepared.codes[:, :1] == types, first, axis=0, dtype=np.float64)
    return np.column_stack(
        [
            np.log1p(length_s), np.log1p(length_s / sizes),
            np.where(amount > 0, np.log1p(amount), np.nan),
            prepared.times[:, _LOCAL_HOUR], np.log1p(of_type[:, of_type.any(axis=0)]),
        ]
    )  # fmt: skip


def _by_place(place: Ints) -> Iterator[Ints]:
    """All customers' first sessions, then all second ones, and so on."""
    order = np.argsort(place, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(place[order])) + 1)


def _against_own_mean(sequences: Sequences, place: Ints, numbers: Floats) -> Floats:
    """Numbers less the customer's mean of them in the sessions before; NaN without any."""
    people = len(sequences.customer_id)
    sums, counts = (np.zeros((people, numbers.shape[1])) for _ in range(2))
    found = np.empty(numbers.shape)
    for rows in _by_place(place):
        who, new = sequences.customer[rows], numbers[rows]
        mean = np.where(counts[who] > 0, sums[who] / np.maximum(counts[who], 1), np.nan)
        found[rows] = new - mean
        sums[who] += np.nan_to_num(new)
        counts[who] += ~np.isnan(new)
    return found


def _running(sequences: Sequences, place: Ints, balance: Floats) -> Floats:
    """What runs along a customer's sessions: (sessions, ...)."""
    intent, end = sequences.intent, sequences.sessions.end_us
    decays = np.array(_FORGOTTEN_DAYS)
    people = len(sequences.customer_id)
    counts, faded = np.zeros((people, _CLASSES)), np.zeros((people, len(decays), _CLASSES))
    last = np.full((people, _CLASSES), np.nan)
    means, weights = np.zeros((people, len(decays) + 1)), np.zeros((people, len(decays) + 1))
    before, known = np.zeros(people, dtype=np.int64), np.full(people, np.nan)
    width = _CLASSES * (2 + len(decays)) + len(decays) + 2 * (len(decays) + 1) + 1
    found = np.empty((len(intent), width))
    for rows in _by_place(place):
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
