"""Will this customer call within a day? Asked at a login, answered by a calibrated probability.

Target: the label of the login, 1 if a call came within 24 hours, from whichever session it came.
Read `build` and `train` from top to bottom; `training.retraining` puts data set, training,
judgement and registration together.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from feature_repo.contracts.events import EventType
from feature_repo.contracts.settings import Settings
from feature_repo.scoring.scorers import Trees
from training.boosting import BoostedConfig, boost, both_classes
from training.configuration import load_config
from training.dataset import Examples
from training.evaluation.baselines import GroupMean
from training.evaluation.bootstrap import interval
from training.evaluation.calibration import (
    expected_calibration_error,
    measured_calibration,
    reliability,
    reliability_picture,
)
from training.evaluation.gate import beats_baseline
from training.evaluation.metrics import AVERAGE_PRECISION, BRIER, LOG_LOSS, ROC_AUC
from training.evaluation.slices import as_clusters
from training.importance import gain_importance
from training.judging import Trained
from training.labelled_examples import labelled_examples
from training.prepared import Prepared

log = logging.getLogger(__name__)

NAME = "call_within_day"
TARGET = "label_value"
# Fewer logins than this make no model worth judging.
MIN_LOGINS = 500
_TITLE = "Call within a day"
_CARD = """\
Will this customer call the call centre within 24 hours? Asked at a login, of customers of a
remittance service. Meant for staffing, and for offering help before somebody has to call; not for
hiding the number from those who will need it. The probability is calibrated on the latest weeks
before the test part: take it at its word as long as calls are as frequent as they were then."""


@dataclass(frozen=True)
class Config(BoostedConfig):
    """The model's configuration; its values stand in `configs/call_within_day.yaml`.

    Attributes:
        baseline_group: the column whose rates are the baseline.
        label_delay: how long after a login its label is there at the latest; `gap` is as long.
    """

    baseline_group: str
    label_delay: timedelta


def build(
    settings: Settings,
    start: datetime | None = None,
    end: datetime | None = None,
    config: Config | None = None,
) -> Examples:
    """The logins of a window whose labels had arrived by its end, with their features.

    Raises:
        DatasetError: no offline store, no label, fewer than MIN_LOGINS logins with one, or a
            feature that knows the future.
    """
    config = config or load_config(Config, NAME)
    return labelled_examples(
        settings,
        NAME,
        EventType.LOGIN,
        config.label_delay,
        (start, end),
        noun="logins",
        least=MIN_LOGINS,
        columns=("customer_id", "corridor", "event_timestamp", "label_timestamp", TARGET),
    )


def train(examples: Examples, config: Config, report: Callable[[str], None] = log.info) -> Trained:
    """Train on the earlier logins, stop and calibrate on later ones, judge on the latest.

    `report` gets a line now and then, and the verdict at the end.

    Raises:
        DatasetError: a part of the split is empty or has one class only, or the baseline's column
            is unknown.
    """
    prepared = Prepared.of(NAME, examples, config)
    split, inputs, matrix = prepared.split, prepared.inputs, prepared.matrix
    groups = prepared.column("baseline_group", config.baseline_group, "session_corridor_last")
    customers = prepared.frame["customer_id"]
    target = prepared.frame[TARGET].to_numpy()
    both_classes(target, split, "a call")
    params = config.booster_params("binary", "binary_logloss")
    scorer = Trees(
        boost(config, params, inputs, matrix, target, split, report), threads=config.threads
    )

    # From scores to probabilities, by the method that does best on rows it has not seen.
    calibration, methods = measured_calibration(
        scorer.score(matrix[split.validation])[0],
        target[split.validation],
        as_clusters(customers[split.validation]),
    )

    # The judge: the latest logins, which nothing has seen. Log loss, since what is served is a
    # probability: it asks for the order of the customers and for the height at once.
    truth = target[split.test]
    chance = calibration.probability(scorer.score(matrix[split.test])[0])
    rates = GroupMean.fit(groups[split.train], target[split.train])
    held_out = prepared.held_out(truth, chance, rates.predict(groups[split.test]), binary=True)
    baseline_name = f"rate per {config.baseline_group}"
    decision = beats_baseline(
        LOG_LOSS, held_out, baseline_name, resamples=config.bootstrap_resamples, seed=config.seed
    )
    resampled = {"resamples": config.bootstrap_resamples, "seed": config.seed}
    precision = interval(AVERAGE_PRECISION, truth, chance, held_out.clusters, **resampled)
    table = reliability(truth, chance)
    metrics = {
        "log_loss": decision.ours,
        "baseline_log_loss": decision.theirs,
        "log_loss_difference_low": decision.interval.low,
        "log_loss_difference_high": decision.interval.high,
        "expected_calibration_error": expected_calibration_error(truth, chance),
        "average_precision": AVERAGE_PRECISION(truth, chance),
        "average_precision_low": precision.low,
        "average_precision_high": precision.high,
        "baseline_average_precision": AVERAGE_PRECISION(truth, held_out.baseline),
        "roc_auc": ROC_AUC(truth, chance),
        "brier": BRIER(truth, chance),
        "prevalence": float(truth.mean()),
    }
    return prepared.trained(
        scorer,
        LOG_LOSS,
        held_out,
        decision,
        target=NAME,
        unit="probability",
        title=_TITLE,
        card=_CARD,
        metrics=metrics,
        importance=gain_importance(scorer.booster),
        calibration=calibration,
        params={"calibration": calibration.method},
        pictures={"reliability.png": reliability_picture(table, f"{_TITLE}: reliability")},
        tables={"reliability": table, "calibration_methods": methods},
        report=report,
    )
