"""What will this customer send in the next 90 days? In US cents, with percentiles.

Value is what arrives: the amounts of confirmed payments. Asked at midnights; the model learns by
how much a customer's next days differ from the own past rate, and what is served is that multiple
of it, with a total that is right over all customers. Read `build` and `train` from top to bottom;
`training.retraining` puts data set, training, judgement and registration together.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.model_files import Answer, Exposure, Percentiles
from feature_repo.contracts.settings import Settings
from feature_repo.scoring.scorers import Trees
from training.boosting import BoostedConfig, boost
from training.configuration import load_config
from training.dataset import Examples, join_features
from training.embedding.versions import load_embedding
from training.evaluation.baselines import GroupMean
from training.evaluation.bootstrap import paired_interval
from training.evaluation.gate import HeldOut, beats_baseline, closest
from training.evaluation.metrics import MEAN_ABSOLUTE_ERROR, POISSON_DEVIANCE, RMSE, Floats
from training.history import check_history, fill_history
from training.importance import gain_importance
from training.judging import Trained
from training.leakage import check_leakage
from training.prepared import Prepared
from training.values import values_at

log = logging.getLogger(__name__)

NAME = "customer_value"
TARGET = "value_ref_minor"
# What the own past rate is read from: US cents a day.
OWN_RATE = "sent_daily_ref_minor"
# Fewer examples than this make no model worth judging.
MIN_EXAMPLES = 200
_PERCENTILE_POINTS = 8
_CARD = """\
What will this customer send in the coming days (see `horizon`), in US cents: the amounts of
payments that arrive. Meant for planning, and for whom to give time to; not for prices. The
prediction is an expectation, whose total over all customers is calibrated; a single customer may be
far from it, and the percentiles say how far. Who was not seen in 90 days is not asked about."""


@dataclass(frozen=True)
class Config(BoostedConfig):
    """The model's configuration; its values stand in `configs/customer_value.yaml`.

    Attributes:
        horizon: how far ahead; `gap` is as long.
        every: between snapshots.
        history: how long the archive must be before the first snapshot.
        baseline_group: the column whose means are a baseline.
        floor_share: added to a customer's own rate, as a share of everybody's.
        levels: of the percentiles.
    """

    horizon: timedelta
    every: timedelta
    history: timedelta
    baseline_group: str
    floor_share: float
    levels: tuple[float, ...]


def build(
    settings: Settings,
    start: datetime | None = None,
    end: datetime | None = None,
    config: Config | None = None,
) -> Examples:
    """Customers at snapshots whose whole horizon had passed by the window's end, with features.

    Raises:
        DatasetError: no offline store, no snapshot, fewer than MIN_EXAMPLES examples, or a feature
            that knows the future.
    """
    config = config or load_config(Config, NAME)
    values = values_at(
        settings, config.horizon, every=config.every, history=config.history, start=start, end=end
    )
    log.info("%s customers at %s snapshots", values.frame.height, len(values.snapshots))
    if values.frame.height < MIN_EXAMPLES:
        raise DatasetError(
            "window",
            f"{values.window_start} .. {values.window_end}",
            f"at least {MIN_EXAMPLES} customers at snapshots, it has {values.frame.height}",
            "widen it, or stream more events",
        )
    # The flow `customer_history` brings them online.
    fill_history(settings, values.snapshots)
    dataset = join_features(settings, NAME, values.frame, load_embedding(settings))
    check_leakage(settings, dataset)
    check_history(settings, values.snapshots)
    counts = {
        "examples": values.frame.height,
        "snapshots": len(values.snapshots),
        "open_snapshots": values.open,
    }
    return Examples(dataset, (values.window_start, values.window_end), counts)


def train(examples: Examples, config: Config, report: Callable[[str], None] = log.info) -> Trained:
    """Train on the earlier snapshots, stop and set the total on later ones, judge on the latest.

    `report` gets a line now and then, and the verdict at the end.

    Raises:
        DatasetError: a part of the split is empty, nobody sent anything, or the baseline's column
            is unknown.
    """
    prepared = Prepared.of(NAME, examples, config)
    frame, split, inputs, matrix = (
        prepared.frame, prepared.split, prepared.inputs, prepared.matrix,
    )  # fmt: skip
    groups = prepared.column("baseline_group", config.baseline_group, "main_corridor")
    target = frame[TARGET].to_numpy().astype(np.float64)
    for part in (split.train, split.validation, split.test):
        if not target[part].any():
            raise DatasetError(
                "value", 0, "payments that arrive, in each part of the data", "widen the window"
            )

    # A score is a multiple of what the customer would send going on as before. As multiples, all
    # customers count alike; in money, the few who send most would be learnt by heart.
    own_rate = np.nan_to_num(frame[OWN_RATE].cast(pl.Float64).to_numpy(), nan=0.0)
    days = config.horizon / timedelta(days=1)
    floor = config.floor_share * float(own_rate[split.train].mean())
    going_on = Exposure(OWN_RATE, floor, days)
    multiple = target / going_on.of(own_rate)
    params = config.booster_params("poisson", "poisson")
    scorer = Trees(
        boost(config, params, inputs, matrix, multiple, split, report), threads=config.threads
    )

    # The total is made right, and the spread learnt, on snapshots that no tree was grown on.
    raw = scorer.score(matrix)[0] * going_on.of(own_rate)
    factor = float(target[split.validation].sum() / raw[split.validation].sum())
    value = raw * factor
    spread = fit_percentiles(value[split.validation], target[split.validation], config.levels)

    # The judge: the latest snapshots, which nothing has seen.
    truth, predicted = target[split.test], value[split.test]
    means = GroupMean.fit(groups[split.train], target[split.train])
    baselines = {
        "own past rate": np.maximum(days * own_rate[split.test], days * floor),
        f"mean per {config.baseline_group}": means.predict(groups[split.test]),
    }
    sides = {
        name: prepared.held_out(
            truth, predicted, baseline, corridor="main_corridor", channel="preferred_channel"
        )
        for name, baseline in baselines.items()
    }
    decisions = {
        name: beats_baseline(
            POISSON_DEVIANCE, side, name, resamples=config.bootstrap_resamples, seed=config.seed
        )
        for name, side in sides.items()
    }
    hardest = closest(POISSON_DEVIANCE, decisions)
    decision = decisions[hardest]
    percentiles = spread.at(predicted)
    metrics = {
        "poisson_deviance": decision.ours,
        **{
            f"{short}_{what}": number
            for short, found in zip(("own_rate", "group_mean"), decisions.values(), strict=True)
            for what, number in (
                ("poisson_deviance", found.theirs),
                ("difference_low", found.interval.low),
                ("difference_high", found.interval.high),
            )
        },
        "total_ratio": float(predicted.sum() / truth.sum()),
        "total_factor": factor,
        **{
            f"share_below_{name}": float((truth <= column).mean())
            for name, column in zip(spread.names, percentiles.T, strict=True)
        },
        **_in_money(sides["own past rate"], config),
    }
    return prepared.trained(
        scorer,
        POISSON_DEVIANCE,
        sides[hardest],
        decision,
        target=TARGET,
        unit="USD cents",
        title="Customer value",
        card=_CARD,
        metrics=metrics,
        importance=gain_importance(scorer.booster),
        answer=Answer(exposure=Exposure(OWN_RATE, floor, days * factor), percentiles=spread),
        report=report,
    )


def fit_percentiles(
    predicted: Floats, truth: Floats, levels: tuple[float, ...], points: int = _PERCENTILE_POINTS
) -> Percentiles:
    """How many times its prediction the truth is, among rows of about that prediction.

    Args:
        predicted, truth: (n,) of rows that nothing was trained on; predictions above 0.
        points: groups of equally many rows.

    Source: the spread of held-out residuals, as in split conformal prediction (Lei et al., JASA
    2018), by group.
    """
    order = np.argsort(predicted, kind="stable")
    groups = np.array_split(order, min(points, len(order)))
    multiples = [np.quantile(truth[rows] / predicted[rows], levels) for rows in groups]
    return Percentiles(
        tuple(levels),
        tuple(float(np.median(predicted[rows])) for rows in groups),
        tuple(tuple(column.tolist()) for column in np.array(multiples).T),
    )


def _in_money(test: HeldOut, config: Config) -> dict[str, float]:
    """Errors in cents beside those of the own past rate, with intervals of the difference."""
    found: dict[str, float] = {}
    for metric in (MEAN_ABSOLUTE_ERROR, RMSE):
        apart = paired_interval(
            metric, test.target, test.prediction, test.baseline, test.clusters,
            resamples=config.bootstrap_resamples, seed=config.seed,
        )  # fmt: skip
        found |= {
            metric.name: metric(test.target, test.prediction),
            f"own_rate_{metric.name}": metric(test.target, test.baseline),
            f"{metric.name}_difference_low": apart.low,
            f"{metric.name}_difference_high": apart.high,
        }
    return found
