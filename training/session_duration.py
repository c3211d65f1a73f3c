"""How long will this session last? Asked at its first event, answered by gradient-boosted trees.

Target: log1p of the seconds from a session's first event to its last. Read `train` from top to
bottom; `train_session_duration` puts data set, training and registration together.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import lightgbm as lgb
import numpy as np
import polars as pl

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.model_inputs import ModelInputs, learn_categories
from feature_repo.contracts.settings import Settings
from training.dataset import Dataset, join_features
from training.evaluate import GroupMean, Interval, rmse, rmse_difference_interval
from training.importance import gain_importance, importance_picture
from training.registry import Candidate, golden_rows, register
from training.sessions import Sessions, closed_sessions
from training.split import split_by_time

log = logging.getLogger(__name__)

NAME = "session_duration"
TARGET = "log1p_duration_s"
# Fewer sessions than this make no model worth judging.
MIN_SESSIONS = 50


@dataclass(frozen=True)
class Config:
    """The model's configuration.

    `baseline_group` is the column whose means are the baseline: the corridor, or the channel for
    a click log without corridors. `gap` covers a session's length and the half hour after which
    it counts as over. Threads change sums in the last bits: equal results need equal `threads`.
    """

    baseline_group: str = "session_corridor_last"
    num_leaves: int = 31
    learning_rate: float = 0.05
    min_data_in_leaf: int = 50
    feature_fraction: float = 0.8
    lambda_l2: float = 5.0
    max_rounds: int = 1_000
    early_stopping_rounds: int = 30
    validation_share: float = 0.15
    test_share: float = 0.25
    gap: timedelta = timedelta(hours=2)
    bootstrap_resamples: int = 1_000
    seed: int = 7
    threads: int = 2

    def booster_params(self) -> dict[str, object]:
        """What LightGBM is told."""
        return {
            "objective": "regression",
            "metric": "rmse",
            "num_leaves": self.num_leaves,
            "learning_rate": self.learning_rate,
            "min_data_in_leaf": self.min_data_in_leaf,
            "feature_fraction": self.feature_fraction,
            "lambda_l2": self.lambda_l2,
            "seed": self.seed,
            "num_threads": self.threads,
            "deterministic": True,
            "force_row_wise": True,  # the automatic choice depends on timing
            "verbosity": -1,
        }


@dataclass(frozen=True)
class Trained:
    """A model with its judgement.

    Attributes:
        candidate: what would be registered.
        baseline: the baseline's name.
        interval: 95 % interval of (model's RMSE - baseline's RMSE) on the test part.
        counts: sessions, train, validation, test, open, events.
    """

    candidate: Candidate
    baseline: str
    interval: Interval
    counts: dict[str, int]

    @property
    def beats_baseline(self) -> bool:
        """Whether the model is surely better than its baseline."""
        return self.interval.below_zero

    @property
    def verdict(self) -> str:
        """The judgement in a sentence."""
        metrics = self.candidate.metrics
        return (
            f"RMSE {metrics['rmse']:.4f} {'beats' if self.beats_baseline else 'does not beat'} "
            f"{self.baseline}'s {metrics['baseline_rmse']:.4f}: difference "
            f"{metrics['rmse'] - metrics['baseline_rmse']:+.4f}, "
            f"95 % interval [{self.interval.low:+.4f}, {self.interval.high:+.4f}]"
        )


@dataclass(frozen=True)
class TrainingResult:
    """A registered model version and what it is made of."""

    version: int
    trained: Trained


def train_session_duration(
    settings: Settings,
    start: datetime | None = None,
    end: datetime | None = None,
    config: Config = Config(),
) -> TrainingResult:
    """Build the data set, train, judge and register; promotes nothing.

    Raises:
        DatasetError: the window holds too little; nothing is registered then.
        ModelError: the tracking server does not take the model.
    """
    sessions, dataset = build(settings, start, end)
    trained = train(sessions, dataset, config)
    return TrainingResult(register(settings, trained.candidate), trained)


def build(
    settings: Settings, start: datetime | None = None, end: datetime | None = None
) -> tuple[Sessions, Dataset]:
    """The closed sessions of a window, and their features as of their first event.

    Raises:
        DatasetError: no offline store, or fewer than MIN_SESSIONS closed sessions.
    """
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
    return sessions, join_features(settings, NAME, examples)


def train(
    sessions: Sessions,
    dataset: Dataset,
    config: Config = Config(),
    report: Callable[[str], None] = log.info,
) -> Trained:
    """Train on the earlier sessions, stop on later ones, judge on the latest.

    `report` gets a line now and then, and the verdict at the end.

    Raises:
        DatasetError: a part of the split is empty, or the baseline's column is unknown.
    """
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

    def part(rows: slice, reference: lgb.Dataset | None = None) -> lgb.Dataset:
        return lgb.Dataset(
            matrix[rows],
            target[rows],
            reference=reference,
            feature_name=list(inputs.columns),
            categorical_feature=list(inputs.categorical),
            params=config.booster_params(),
        )

    train_part = part(split.train)
    booster = lgb.train(
        config.booster_params(),
        train_part,
        num_boost_round=config.max_rounds,
        valid_sets=[part(split.validation, train_part)],
        valid_names=["validation"],
        callbacks=[
            lgb.early_stopping(config.early_stopping_rounds, verbose=False),
            _report_every(50, report),
        ],
    )

    # The judge: the latest sessions, which neither training nor stopping has seen.
    truth = target[split.test]
    predicted = booster.predict(
        matrix[split.test], num_iteration=booster.best_iteration, num_threads=config.threads
    )
    groups = frame[config.baseline_group]
    means = GroupMean.fit(groups[split.train], target[split.train])
    baseline = means.predict(groups[split.test])
    interval = rmse_difference_interval(
        truth,
        predicted,
        baseline,
        clusters=frame["customer_id"][split.test].rank("dense").to_numpy().astype(np.int64) - 1,
        resamples=config.bootstrap_resamples,
        seed=config.seed,
    )
    metrics = {
        "rmse": rmse(truth, predicted),
        "baseline_rmse": rmse(truth, baseline),
        "overall_mean_rmse": rmse(truth, np.full(len(truth), means.overall)),
        "rmse_difference_low": interval.low,
        "rmse_difference_high": interval.high,
        "validation_rmse": float(booster.best_score["validation"]["rmse"]),
        "median_absolute_error_s": float(np.median(np.abs(np.expm1(predicted) - np.expm1(truth)))),
        "trees": float(booster.best_iteration),
        "training_s": time.perf_counter() - began,
    }
    counts = {
        "sessions": frame.height,
        "train": split.train.stop - split.train.start,
        "validation": split.validation.stop - split.validation.start,
        "test": split.test.stop - split.test.start,
        "open": sessions.open,
        "events": sessions.events,
    }
    importance = gain_importance(booster)
    trained = Trained(
        candidate=Candidate(
            inputs=inputs,
            booster=booster,
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
            window=(sessions.window_start, sessions.window_end),
            data_fingerprint=dataset.fingerprint,
            importance=importance,
            picture=importance_picture(importance, "Session duration: importance of inputs"),
            tags={"baseline": f"mean per {config.baseline_group}"},
            examples=golden_rows(matrix[split.test]),
        ),
        baseline=f"mean per {config.baseline_group}",
        interval=interval,
        counts=counts,
    )
    report(f"{trained.verdict} ({metrics['trees']:.0f} trees, {metrics['training_s']:.1f} s)")
    return trained


def _report_every(
    rounds: int, report: Callable[[str], None]
) -> Callable[[lgb.callback.CallbackEnv], None]:
    def after_round(env: lgb.callback.CallbackEnv) -> None:
        if (env.iteration + 1) % rounds == 0:
            score = env.evaluation_result_list[0][2]
            report(f"round {env.iteration + 1}: validation RMSE {score:.4f}")

    return after_round
