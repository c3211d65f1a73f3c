"""How long will this session last? Asked at its first event, answered by gradient-boosted trees.

Target: log1p of the seconds from a session's first event to its last. Read `build` and `train` from
top to bottom; `training.retraining` puts data set, training, judgement and registration together.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime

import numpy as np
import polars as pl

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.model_inputs import ModelInputs, learn_categories
from feature_repo.contracts.settings import Settings
from feature_repo.scoring.scorers import Trees
from training.boosting import BoostedConfig, boost, predict
from training.candidate import Candidate, golden_rows
from training.dataset import Dataset, Examples, join_features
from training.evaluation.baselines import GroupMean, WeibullExpectation
from training.evaluation.bootstrap import paired_interval
from training.evaluation.gate import HeldOut, beats_baseline
from training.evaluation.metrics import RMSE
from training.evaluation.slices import as_clusters, new_customers
from training.importance import importance, importance_picture
from training.judging import Trained
from training.leakage import check_leakage
from training.sessions import Sessions, closed_sessions
from training.split import split_by_time

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
    dataset = examples.dataset
    frame = dataset.frame
    if config.baseline_group not in frame.columns:
        raise DatasetError(
            "baseline_group",
            config.baseline_group,
            "a feature of the session_duration service, such as session_corridor_last",
            "name one",
        )
    began = time.perf_counter()
    split = split_by_time(
        frame["event_timestamp"],
        validation=config.validation_share,
        test=config.test_share,
        gap=config.gap,
    )
    # Categories come from the training part: what it never saw is missing to the model.
    inputs = ModelInputs(NAME, learn_categories(dataset.inputs, frame[split.train]))
    matrix = inputs.matrix(frame)
    target = frame[TARGET].to_numpy()

    params = config.booster_params("regression", "rmse")
    booster = boost(config, params, inputs, matrix, target, split, report)

    # The judge: the latest sessions, which neither training nor stopping has seen.
    truth = target[split.test]
    predicted = predict(config, booster, matrix[split.test])
    groups = frame[config.baseline_group]
    means = GroupMean.fit(groups[split.train], target[split.train])
    baseline = means.predict(groups[split.test])
    tested = frame[split.test]
    held_out = HeldOut(
        frame=tested,
        target=truth,
        prediction=predicted,
        baseline=baseline,
        clusters=as_clusters(tested["customer_id"]),
        groups={
            "corridor": tested["session_corridor_last"],
            "channel": tested["session_channel_last"],
            "customer": new_customers(tested["tenure_days"]),
        },
    )
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
        "validation_rmse": float(booster.best_score["validation"]["rmse"]),
        "median_absolute_error_s": float(np.median(np.abs(np.expm1(predicted) - np.expm1(truth)))),
        "trees": float(booster.best_iteration),
        "training_s": time.perf_counter() - began,
    }
    counts = examples.counts | split.counts()
    weights = importance(
        booster, matrix[split.test], truth, RMSE,
        lambda rows: np.asarray(booster.predict(rows, num_threads=config.threads)),
        seed=config.seed,
    )  # fmt: skip
    trained = Trained(
        candidate=Candidate(
            inputs=inputs,
            scorer=Trees(booster),
            target="session_duration_s",
            target_transform="log1p",
            unit="s",
            metric_name="rmse",
            metric_value=metrics["rmse"],
            metrics={**metrics, **{f"{name}_rows": float(n) for name, n in counts.items()}},
            params={
                **asdict(config),
                "validation_start": split.validation_start.isoformat(),
                "test_start": split.test_start.isoformat(),
                "absent_views": ",".join(dataset.absent_views),
            },
            window=examples.window,
            data_fingerprint=dataset.fingerprint,
            importance=weights,
            pictures={
                "importance.png": importance_picture(
                    weights, "Session duration: importance of inputs"
                )
            },
            tags={"baseline": baseline_name},
            examples=golden_rows(matrix[split.test]),
            card=_CARD,
        ),
        metric=RMSE,
        held_out=held_out,
        baseline=baseline_name,
        against_baseline=decision,
        counts=counts,
        tolerance=config.tolerance,
        resamples=config.bootstrap_resamples,
        seed=config.seed,
    )
    report(f"{trained.verdict} ({metrics['trees']:.0f} trees, {metrics['training_s']:.1f} s)")
    return trained
