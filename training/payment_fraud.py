"""Is this payment fraud? Asked as it is submitted, answered by a calibrated probability.

Target: the label of the payment, which arrives after four to ten days. An autoencoder trained on
honest payments tells how unusual a payment is: one more input of the trees, and a score of its own,
served as `anomaly`. Where to act is chosen by cost. Read `build` and `train` from top to bottom;
`training.retraining` puts data set, training, judgement and registration together.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
import numpy as np
import yaml

from feature_repo.contracts.events import EventType
from feature_repo.contracts.model_inputs import ModelInput, ModelInputs
from feature_repo.contracts.settings import Settings
from feature_repo.scoring.scorers import Trees, with_anomaly
from training.anomaly import AnomalyConfig, fit_anomaly
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
from training.evaluation.cost import Costs, OperatingPoint, at_threshold, cheapest
from training.evaluation.gate import beats_baseline, closest
from training.evaluation.metrics import AVERAGE_PRECISION, BRIER, LOG_LOSS, ROC_AUC
from training.evaluation.slices import as_clusters
from training.imbalance import Rows, Treatment, measured_treatment
from training.importance import gain_importance
from training.judging import Trained
from training.labelled_examples import labelled_examples
from training.prepared import Prepared

log = logging.getLogger(__name__)

NAME = "payment_fraud"
TARGET = "label_value"
AMOUNT = "amount_ref_minor"
# Fewer payments than this make no model worth judging.
MIN_PAYMENTS = 500
_TITLE = "Payment fraud"
_CARD = """\
Is this payment fraud? Asked as it is submitted, of customers of a remittance service: accounts
taken over, recipients who are mules, stolen cards being tried. Meant for choosing which payments
somebody looks at before the money leaves (see the operating point); not for refusing customers
without looking. `anomaly` says how unusual a payment is, known frauds or not. Fraud that nobody
reports is not among the labels."""


@dataclass(frozen=True)
class Config(BoostedConfig):
    """The model's configuration; its values stand in `configs/payment_fraud.yaml`.

    Attributes:
        label_delay: how long after a payment its label is there at the latest; `gap` is as long.
        baseline_group: the column whose rates are a baseline.
        treatments, kept_per_event: of the imbalance, see `training.imbalance`.
        costs: of looking and of not looking.
        anomaly: the autoencoder.
    """

    label_delay: timedelta
    baseline_group: str
    treatments: tuple[Treatment, ...]
    kept_per_event: float
    costs: Costs
    anomaly: AnomalyConfig


def build(
    settings: Settings,
    start: datetime | None = None,
    end: datetime | None = None,
    config: Config | None = None,
) -> Examples:
    """The payments of a window whose labels had arrived by its end, with features as submitted.

    Raises:
        DatasetError: no offline store, no label, fewer than MIN_PAYMENTS payments with one, or a
            feature that knows the future.
    """
    config = config or load_config(Config, NAME)
    return labelled_examples(
        settings,
        NAME,
        EventType.PAYMENT_SUBMITTED,
        config.label_delay,
        (start, end),
        noun="payments",
        least=MIN_PAYMENTS,
        columns=(
            "customer_id",
            "corridor",
            "counterparty_id",
            "event_timestamp",
            "label_timestamp",
            AMOUNT,
            TARGET,
        ),
    )


def train(examples: Examples, config: Config, report: Callable[[str], None] = log.info) -> Trained:
    """Train on the earlier payments; stop, calibrate and choose where to act on later ones; judge
    on the latest.

    `report` gets a line now and then, and the verdict at the end.

    Raises:
        DatasetError: a part of the split is empty or has one class only, or the baseline's column
            is unknown.
    """
    prepared = Prepared.of(NAME, examples, config)
    split, inputs, matrix = prepared.split, prepared.inputs, prepared.matrix
    groups = prepared.column("baseline_group", config.baseline_group, "session_corridor_last")
    frame = prepared.frame
    target = frame[TARGET].to_numpy()
    amount = frame[AMOUNT].fill_null(0).to_numpy().astype(np.float64)
    both_classes(target, split, "fraud")

    # What normal looks like is learnt from some customers, the trees from the others.
    of_network = _chosen(as_clusters(frame["customer_id"][split.train]), config.anomaly)
    honest = of_network & (target[split.train] == 0)
    network = fit_anomaly(matrix[split.train][honest], inputs, config.anomaly)
    anomaly = network(matrix)
    fed, fed_inputs = with_anomaly(matrix, anomaly), _with_anomaly(inputs)
    learners = np.flatnonzero(~of_network)

    def learn(rows: Rows, changes: dict[str, object]) -> Trees:
        # Stopped by AUC: weights and undersampling make log loss mean nothing, and average
        # precision jumps about while there are few frauds.
        params = config.booster_params("binary", "auc", **changes)
        booster = boost(config, params, fed_inputs, fed, target, split, report, train_rows=rows)
        return Trees(booster, network, threads=config.threads)

    validated, known = matrix[split.validation], target[split.validation]
    scorer, treatments = measured_treatment(
        learn,
        config.treatments,
        learners,
        target,
        (validated, known),
        kept_per_event=config.kept_per_event,
        seed=config.seed,
    )
    treatment = str(treatments.filter("chosen")["treatment"][0])
    report(f"rarity of fraud: {treatment} does best on the validation part")

    # From scores to probabilities, and from probabilities to where it pays to look.
    validated_scores, _ = scorer.score(validated)
    calibration, methods = measured_calibration(
        validated_scores, known, as_clusters(frame["customer_id"][split.validation])
    )
    point = cheapest(
        known, calibration.probability(validated_scores), amount[split.validation], config.costs
    )

    # The judge: the latest payments, which nothing has seen. Average precision, since few are
    # frauds and somebody looks at the likeliest first.
    truth, at_stake = target[split.test], amount[split.test]
    chance = calibration.probability(scorer.score(matrix[split.test])[0])
    rates = GroupMean.fit(groups[split.train], target[split.train])
    baselines = {
        f"rate per {config.baseline_group}": rates.predict(groups[split.test]),
        "anomaly alone": anomaly[split.test],
        "amount": at_stake,
    }
    sides = {
        name: prepared.held_out(truth, chance, baseline, binary=True)
        for name, baseline in baselines.items()
    }
    resampled = {"resamples": config.bootstrap_resamples, "seed": config.seed}
    decisions = {
        name: beats_baseline(AVERAGE_PRECISION, side, name, **resampled)
        for name, side in sides.items()
    }
    hardest = closest(AVERAGE_PRECISION, decisions)
    decision, held_out = decisions[hardest], sides[hardest]
    precision = interval(AVERAGE_PRECISION, truth, chance, held_out.clusters, **resampled)
    acted = at_threshold(truth, chance, at_stake, config.costs, point.threshold)
    by_half = at_threshold(truth, chance, at_stake, config.costs, 0.5)
    metrics = {
        "average_precision": decision.ours,
        "average_precision_low": precision.low,
        "average_precision_high": precision.high,
        "baseline_average_precision": decision.theirs,
        "average_precision_difference_low": decision.interval.low,
        "average_precision_difference_high": decision.interval.high,
        "anomaly_average_precision": AVERAGE_PRECISION(truth, anomaly[split.test]),
        "anomaly_roc_auc": ROC_AUC(truth, anomaly[split.test]),
        "roc_auc": ROC_AUC(truth, chance),
        "log_loss": LOG_LOSS(truth, chance),
        "brier": BRIER(truth, chance),
        "expected_calibration_error": expected_calibration_error(truth, chance),
        "prevalence": float(truth.mean()),
        "operating_threshold": point.threshold,
        "cost_minor": acted.cost_minor,
        "cost_never_minor": acted.cost_never_minor,
        "cost_by_half_minor": by_half.cost_minor,
        "reviewed_share": acted.reviewed_share,
        "operating_recall": acted.recall,
        "operating_precision": acted.precision,
    }
    table = reliability(truth, chance)
    return prepared.trained(
        scorer,
        AVERAGE_PRECISION,
        held_out,
        decision,
        target=NAME,
        unit="probability",
        title=_TITLE,
        card=_CARD,
        metrics=metrics,
        importance=gain_importance(scorer.booster),
        calibration=calibration,
        params={"calibration": calibration.method, "treatment": treatment},
        pictures={"reliability.png": reliability_picture(table, f"{_TITLE}: reliability")},
        tables={
            "reliability": table,
            "calibration_methods": methods,
            "treatments": treatments,
        },
        files=_policy(point),
        report=report,
    )


def _chosen(customers: Rows, config: AnomalyConfig) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Whose rows the network learns from: (n,) of customers as numbers, (n,)."""
    draws = np.random.default_rng(config.seed).random(int(customers.max()) + 1)
    return (draws < config.customers_share)[customers]


def _policy(point: OperatingPoint) -> dict[str, bytes]:
    """The operating point as a policy that serving reads; none where it never pays to look."""
    if not np.isfinite(point.threshold):
        return {}
    rules = [{"thresholds": {"review": point.threshold}}]
    model = {"value": "probability", "missing": "review", "rules": rules}
    return {"policy.yaml": yaml.safe_dump({"models": {NAME: model}}, sort_keys=False).encode()}


def _with_anomaly(inputs: ModelInputs) -> ModelInputs:
    """The trees' own columns: the inputs, and the network's error."""
    error = ModelInput("network", "anomaly", "Float64")
    return msgspec.structs.replace(inputs, inputs=(*inputs.inputs, error))
