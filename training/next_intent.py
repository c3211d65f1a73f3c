"""What will this customer's next session be for? Asked as a session ends: a chance a class.

Target: the intent of the next session (`training.intents`, a rule over its events), of customers
who come back within a week. Asked of the API at a session's last event, or with its instant as
`as_of`: until half an hour later what happened in it is known as "the session". Read `build` and
`train` from top to bottom; `training.retraining` puts data set, training, judgement and
registration together.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.model_files import Answer
from feature_repo.contracts.settings import Settings
from feature_repo.scoring.scorers import Trees
from training.archive import check_window, shown
from training.boosting import BoostedConfig, boost
from training.configuration import load_config
from training.dataset import Examples, join_features
from training.embedding.versions import load_embedding
from training.evaluation.calibration import expected_calibration_error
from training.evaluation.gate import beats_baseline, closest
from training.evaluation.metrics import LOG_LOSS, MRR, TOP_1, Floats
from training.history import check_history, fill_history, midnights
from training.importance import gain_importance
from training.intent_sessions import intent_sessions
from training.intents import INTENTS
from training.judging import Trained
from training.leakage import check_leakage
from training.prepared import Prepared

log = logging.getLogger(__name__)

NAME = "next_intent"
TARGET = "next_intent"
# What the session that ends was for: the baselines' only input, and none of the model's.
CURRENT = "intent"
# Fewer sessions than this make no model worth judging.
MIN_SESSIONS = 500
_CARD = """\
What will the customer's next session be for, if there is one within a week? Asked as a session
ends. Meant for choosing what to show first when they come back. Intents are told from events by a
rule, not by asking anybody; whoever does not come back within a week is not among the examples."""


@dataclass(frozen=True)
class Config(BoostedConfig):
    """The model's configuration; its values stand in `configs/next_intent.yaml`.

    `within` is how soon the next session must begin; `gap` is that and a session's length.
    """

    within: timedelta


def build(
    settings: Settings,
    start: datetime | None = None,
    end: datetime | None = None,
    config: Config | None = None,
) -> Examples:
    """The sessions of a window whose next one was known by its end, with features as they ended.

    A session counts if `gap` had passed since by the window's end, whether or not there was a next
    one: those who come back sooner are not like the others.

    Raises:
        DatasetError: no offline store, fewer than MIN_SESSIONS sessions, or a feature that knows
            the future.
    """
    config = config or load_config(Config, NAME)
    check_window(start, end)
    sessions = intent_sessions(settings, end)
    if sessions.is_empty():
        raise DatasetError(
            "window", shown(start, end), "at least one event of a session", "widen it"
        )
    last = sessions["last_at"].max()
    window_end = min(end or datetime.now(UTC), last)  # type: ignore[type-var]
    following = sessions.with_columns(
        **{TARGET: pl.col("intent").shift(-1).over("customer_id")},
        next_at=pl.col("started_at").shift(-1).over("customer_id"),
        label_timestamp=pl.col("over_at").shift(-1).over("customer_id"),
    ).filter(pl.col("last_at") >= (start or sessions["started_at"].min()))
    old_enough = following.filter(pl.col("last_at") + config.gap <= window_end)
    known = old_enough.filter(
        (pl.col("next_at") <= pl.col("last_at") + config.within)
        & (pl.col("label_timestamp") <= pl.col("last_at") + config.gap)
    )
    counts = {
        "sessions": following.height,
        "open": following.height - old_enough.height,
        "not_back": old_enough.height - known.height,
    }
    log.info("%s sessions with a next one (%s)", f"{known.height:,}", counts)
    if known.height < MIN_SESSIONS:
        raise DatasetError(
            "window",
            shown(start, end),
            f"at least {MIN_SESSIONS} sessions with a next one within {config.within}, it has "
            f"{known.height}",
            "widen it, or stream more events",
        )
    examples = known.select(
        "customer_id",
        pl.col("last_at").alias("event_timestamp"),
        "label_timestamp",
        CURRENT,
        TARGET,
    ).sort("event_timestamp", "customer_id")
    # Of each session's day; the flow `customer_history` brings them online.
    days = midnights(examples["event_timestamp"][0], examples["event_timestamp"][-1])
    fill_history(settings, days)
    dataset = join_features(settings, NAME, examples, load_embedding(settings))
    check_leakage(settings, dataset)
    check_history(settings, days)
    first = start or sessions["started_at"].min()
    return Examples(dataset, (first, window_end), counts)  # type: ignore[arg-type]


def train(examples: Examples, config: Config, report: Callable[[str], None] = log.info) -> Trained:
    """Train on the earlier sessions, stop on later ones, judge on the latest.

    `report` gets a line now and then, and the verdict at the end.

    Raises:
        DatasetError: a part of the split is empty, or all next sessions are for the same.
    """
    prepared = Prepared.of(NAME, examples, config)
    frame, split, inputs, matrix = (
        prepared.frame, prepared.split, prepared.inputs, prepared.matrix,
    )  # fmt: skip
    numbers = {name: float(number) for number, name in enumerate(INTENTS)}
    target = frame[TARGET].replace_strict(numbers, return_dtype=pl.Float64).to_numpy()
    current = frame[CURRENT].replace_strict(numbers, return_dtype=pl.Float64).to_numpy()
    for name, part in (("train", split.train), ("test", split.test)):
        if len(np.unique(target[part])) < 2:
            raise DatasetError(
                f"{name} part",
                frame[TARGET][part][0],
                "next sessions for more than one thing",
                "widen the window",
            )
    params = config.booster_params("multiclass", "multi_logloss", num_class=len(INTENTS))
    scorer = Trees(
        boost(config, params, inputs, matrix, target, split, report), threads=config.threads
    )

    # The judge: the latest sessions, which nothing has seen. Log loss, since what is served are
    # chances; the share of right first guesses and the rank of the right one stand beside it.
    truth = target[split.test]
    chances, _ = scorer.score(matrix[split.test])
    before, after = current[split.train], target[split.train]
    baselines = {
        "persistence": persistence(before, after)[current[split.test].astype(int)],
        "first-order Markov": markov(before, after)[current[split.test].astype(int)],
    }
    sides = {
        name: prepared.held_out(truth, chances, baseline) for name, baseline in baselines.items()
    }
    resampled = {"resamples": config.bootstrap_resamples, "seed": config.seed}
    judged = {
        metric.name: {
            name: beats_baseline(metric, side, name, **resampled) for name, side in sides.items()
        }
        for metric in (LOG_LOSS, TOP_1, MRR)
    }
    decisions = judged[LOG_LOSS.name]
    hardest = closest(LOG_LOSS, decisions)
    decision = decisions[hardest]
    shorts = {"persistence": "persistence", "first-order Markov": "markov"}
    metrics = {
        **{name: by_baseline[hardest].ours for name, by_baseline in judged.items()},
        **{
            f"{shorts[baseline]}_{name}{what}": number
            for name, by_baseline in judged.items()
            for baseline, found in by_baseline.items()
            for what, number in (
                ("", found.theirs),
                ("_difference_low", found.interval.low),
                ("_difference_high", found.interval.high),
            )
        },
        "top_1_calibration_error": expected_calibration_error(
            (chances.argmax(axis=1) == truth).astype(np.float64), chances.max(axis=1)
        ),
    }
    return prepared.trained(
        scorer,
        LOG_LOSS,
        sides[hardest],
        decision,
        target=TARGET,
        unit="class",
        title="Next intent",
        card=_CARD,
        metrics=metrics,
        importance=gain_importance(scorer.booster),
        answer=Answer(classes=INTENTS),
        report=report,
    )


def persistence(current: Floats, following: Floats) -> Floats:
    """The same again, with the chance at which it was; else as often as each came: (classes,
    classes), a row a current class.

    >>> persistence(np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0]))[0].round(2).tolist()[:2]
    [0.6, 0.15]
    """
    count = len(INTENTS)
    again = (np.sum(current == following) + 1) / (len(current) + 2)
    shares = np.bincount(following.astype(int), minlength=count) + 1.0
    others = np.tile(shares, (count, 1))
    np.fill_diagonal(others, 0.0)
    others *= (1 - again) / others.sum(axis=1, keepdims=True)
    return np.asarray(others + again * np.eye(count))


def markov(current: Floats, following: Floats) -> Floats:
    """How often each class followed each: (classes, classes), a row a current class; one is added
    to every count, so that nothing is impossible."""
    count = len(INTENTS)
    seen = np.ones((count, count))
    np.add.at(seen, (current.astype(int), following.astype(int)), 1.0)
    return np.asarray(seen / seen.sum(axis=1, keepdims=True))
