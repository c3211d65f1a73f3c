"""Gradient-boosted trees as all models here grow them: deterministic, and stopped early.

LightGBM (Ke et al., NeurIPS 2017). The training part grows the trees, the validation part says when
to stop, the test part is not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.model_inputs import ModelInputs
from training.candidate import Matrix
from training.evaluation.gate import Tolerance
from training.evaluation.metrics import Floats
from training.split import TimeSplit

_LINES_EVERY = 50


@dataclass(frozen=True)
class BoostedConfig:
    """What the configuration of every boosted model has; each adds its own.

    Attributes:
        num_leaves, learning_rate, min_data_in_leaf, feature_fraction, lambda_l2: LightGBM's.
        max_rounds: of boosting, at most.
        early_stopping_rounds: without a gain on the validation part, after which it stops.
        validation_share, test_share: of the examples, by time.
        gap: between the parts, as long as a label takes to arrive.
        bootstrap_resamples: draws for the intervals.
        seed: of everything random.
        threads: change sums in the last bits: equal results need equal ones.
        tolerance: how much worse than the champion a version may be.
    """

    num_leaves: int
    learning_rate: float
    min_data_in_leaf: int
    feature_fraction: float
    lambda_l2: float
    max_rounds: int
    early_stopping_rounds: int
    validation_share: float
    test_share: float
    gap: timedelta
    bootstrap_resamples: int
    seed: int
    threads: int
    tolerance: Tolerance

    def booster_params(self, objective: str, metric: str, **more: object) -> dict[str, object]:
        """What LightGBM is told."""
        return {
            "objective": objective,
            "metric": metric,
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
            **more,
        }


def boost(  # noqa: PLR0917 - what is learnt, from what, and who is told
    config: BoostedConfig,
    params: Mapping[str, object],
    inputs: ModelInputs,
    matrix: Matrix,
    target: Floats,
    split: TimeSplit,
    report: Callable[[str], None],
    train_rows: npt.NDArray[np.int64] | None = None,
) -> lgb.Booster:
    """Grow trees on the training part until the validation part gains nothing more.

    Args:
        params: of `config.booster_params`.
        inputs: names and kinds of the columns.
        matrix: (n, width) of all examples.
        target: (n,).
        report: gets a line every 50 rounds.
        train_rows: places of the rows to learn from; None for the whole training part.

    Returns:
        The booster, cut to its best round; its `best_score["validation"]` has the metric.
    """

    def part(
        rows: slice | npt.NDArray[np.int64], reference: lgb.Dataset | None = None
    ) -> lgb.Dataset:
        return lgb.Dataset(
            matrix[rows],
            target[rows],
            reference=reference,
            feature_name=list(inputs.columns),
            categorical_feature=list(inputs.categorical),
            params=dict(params),
        )

    train_part = part(split.train if train_rows is None else train_rows)
    return lgb.train(
        dict(params),
        train_part,
        num_boost_round=config.max_rounds,
        valid_sets=[part(split.validation, train_part)],
        valid_names=["validation"],
        callbacks=[
            lgb.early_stopping(config.early_stopping_rounds, verbose=False),
            _report(str(params["metric"]), report),
        ],
    )


def both_classes(target: Floats, split: TimeSplit, what: str) -> None:
    """Hold every part of the split to having the event and its absence.

    Raises:
        DatasetError: a part has one class only.
    """
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    for name, rows in parts.items():
        events, count = int(target[rows].sum()), rows.stop - rows.start
        if not 0 < events < count:
            raise DatasetError(
                f"{name} part",
                f"{events} of {count} examples have {what}",
                "some with it and some without",
                "widen the window",
            )


def _report(
    metric: str, report: Callable[[str], None]
) -> Callable[[lgb.callback.CallbackEnv], None]:
    shown = {"rmse": "RMSE"}.get(metric, metric.replace("_", " "))

    def after_round(env: lgb.callback.CallbackEnv) -> None:
        if (env.iteration + 1) % _LINES_EVERY == 0:
            score = env.evaluation_result_list[0][2]
            report(f"round {env.iteration + 1}: validation {shown} {score:.4f}")

    return after_round
