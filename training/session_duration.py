"""How long will this session last? Asked at its first event, answered by gradient-boosted trees.

Target: log1p of the seconds from a session's first event to its last. Read `build` and `train` from
top to bottom; `training.retraining` puts data set, training, judgement and registration together.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.settings import Settings
from feature_repo.scoring.scorers import Trees
from training.boosting import BoostedConfig, boost
from training.dataset import Dataset, Examples, join_features
from training.evaluation.baselines import GroupMean, WeibullExpectation
from training.evaluation.bootstrap import paired_interval
from training.evaluation.gate import beats_baseline
from training.evaluation.metrics import RMSE
from training.importance import importance
from training.judging import Trained
from training.leakage import check_leakage
from training.prepared import Prepared
from training.sessions import Sessions, closed_sessions

log = logging.getLogger(__name__)

NAME = "session_duration"
TARGET = "log1p_duration_s"
# Fewer sessions than this make no model worth judging.
MIN_SESSIONS = 50
_CARD = """\
How long will this session last? Asked at a session's first event, of customers of a remittance
service. Meant for planning and for choosing what to show; not for decisions about a person. Open
sessions are left out, so lengths near the window's end are a little too short."""


@dataclass(frozen=True)
class Config(BoostedConfig):
    """The model's configuration; its values stand in `configs/session_duration.yaml`.

    `baseline_group` is the column whose means are the baseline.
    """

    baseline_group: str


def build(
    settings: Settings,
    start: datetime | None = None,
    end: datetime | None = None,
    config: Config | None = None,
) -> Examples:
    """The closed sessions of a window, with their features as of their first event.

    Raises:
        DatasetError: no offline store, fewer than MIN_SESSIONS closed sessions, or a feature that
            knows the future.
    """
    del config  # nothing of the data set depends on it
    sessions = closed_sessions(settings, start, end)
    log.info(
        "%s closed sessions from %s events (%s still open)",
        f"{sessions.frame.height:,}",
        f"{sessions.events:,}",
        sessions.open,
    )
    if sessions.frame.height < MIN_SESSIONS:
        raise DatasetError(
            "window",
            f"{sessions.window_start} .. {sessions.window_end}",
            f"at least {MIN_SESSIONS} closed sessions, it has {sessions.frame.height}",
            "widen it, or stream more events",
        )
    examples = sessions.frame.select(
        "customer_id",
        "corridor",
        "event_timestamp",
        pl.col("duration_s").log1p().alias(TARGET),
    )
    dataset = join_features(settings, NAME, examples)
    check_leakage(settings, dataset)
    return examples_of(sessions, dataset)


def examples_of(sessions: Sessions, dataset: Dataset) -> Examples:
    """The data set of some sessions."""
    return Examples(
        dataset=dataset,
        window=(sessions.window_start, sessions.window_end),
        counts={
            "sessions": sessions.frame.height,
            "open": sessions.open,
            "events": sessions.events,
        },
    )


def train(examples: Examples, config: Config, report: Callable[[str], None] = log.info) -> Trained:
    """Train on the earlier sessions, stop on later ones, judge on the latest.

    `report` gets a line now and then, and the verdict at the end.

    Raises:
        DatasetError: a part of the split is empty, or the baseline's column is unknown.
    """
    prepared = Prepared.of(NAME, examples, config)
    split, inputs, matrix = prepared.split, prepared.inputs, prepared.matrix
    groups = prepared.column("baseline_group", config.baseline_group, "session_corridor_last")
    target = prepared.frame[TARGET].to_numpy()

    params = config.booster_params("regression", "rmse")
    scorer = Trees(
        boost(config, params, inputs, matrix, target, split, report), threads=config.threads
    )

    # The judge: the latest sessions, which neither training nor stopping has seen.
    truth = target[split.test]
    predicted, _ = scorer.score(matrix[split.test])
    means = GroupMean.fit(groups[split.train], target[split.train])
    held_out = prepared.held_out(truth, predicted, means.predict(groups[split.test]))
    baseline_name = f"mean per {config.baseline_group}"
    decision = beats_baseline(
        RMSE, held_out, baseline_name, resamples=config.bootstrap_resamples, seed=config.seed
    )
    # The other baseline: what the corridor's Weibull distribution expects.
    expectation = WeibullExpectation.fit(groups[split.train], np.expm1(target[split.train]))
    expected = expectation.predict(groups[split.test])
    against_weibull = paired_interval(
        RMSE, truth, predicted, expected, held_out.clusters,
        resamples=config.bootstrap_resamples, seed=config.seed,
    )  # fmt: skip
    metrics = {
        "rmse": decision.ours,
        "baseline_rmse": decision.theirs,
        "weibull_rmse": RMSE(truth, expected),
        "weibull_difference_low": against_weibull.low,
        "weibull_difference_high": against_weibull.high,
        "overall_mean_rmse": RMSE(truth, np.full(len(truth), means.overall)),
        "rmse_difference_low": decision.interval.low,
        "rmse_difference_high": decision.interval.high,
        "validation_rmse": RMSE(
            target[split.validation], scorer.score(matrix[split.validation])[0]
        ),
        "median_absolute_error_s": float(np.median(np.abs(np.expm1(predicted) - np.expm1(truth)))),
    }
    weights = importance(
        scorer.booster,
        matrix[split.test],
        truth,
        RMSE,
        lambda rows: np.asarray(scorer.booster.predict(rows, num_threads=config.threads)),
        seed=config.seed,
    )
    return prepared.trained(
        scorer,
        RMSE,
        held_out,
        decision,
        target="session_duration_s",
        target_transform="log1p",
        unit="s",
        title="Session duration",
        card=_CARD,
        metrics=metrics,
        importance=weights,
        report=report,
    )
