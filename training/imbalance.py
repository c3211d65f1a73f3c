"""Rare events: what to do about their rarity, by measurement.

Nothing, weighting the events up, or leaving out most of the rest. Trees split by the gain of their
loss, so none is right everywhere; what distorts probabilities is put right by calibration.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from feature_repo.scoring.scorers import Trees
from training.evaluation.metrics import AVERAGE_PRECISION, ROC_AUC, Floats

Treatment = Literal["none", "weighted", "undersampled"]
Rows = npt.NDArray[np.int64]
# From the rows to learn from and further LightGBM parameters to trees.
Learn = Callable[[Rows, dict[str, object]], Trees]


def measured_treatment(
    learn: Learn,
    treatments: Sequence[Treatment],
    rows: Rows,
    target: Floats,
    validation: tuple[Floats, Floats],
    *,
    kept_per_event: float,
    seed: int,
) -> tuple[Trees, pl.DataFrame]:
    """Train with each treatment; the trees with the best average precision on the validation part.

    Args:
        learn: trains.
        treatments: to try, in order of preference: a later one must do better.
        rows: places of the training rows.
        target: (n,) of all rows, 0 or 1.
        validation: matrix and target of rows that no tree was grown on.
        kept_per_event: when undersampling, rows without the event that are kept for each with it.
        seed: of the undersampling.

    Returns:
        The trees, and the table: treatment, average_precision, roc_auc, trees, chosen.
    """
    matrix, truth = validation
    found: list[tuple[Trees, dict[str, object]]] = []
    for treatment in treatments:
        trees = _treated(learn, treatment, rows, target, kept_per_event, seed)
        scores, _ = trees.score(matrix)
        found.append(
            (
                trees,
                {
                    "treatment": treatment,
                    "average_precision": AVERAGE_PRECISION(truth, scores),
                    "roc_auc": ROC_AUC(truth, scores),
                    "trees": trees.booster.num_trees(),
                },
            )
        )
    table = pl.DataFrame([row for _, row in found])
    best = table["average_precision"].arg_max() or 0
    return found[best][0], table.with_columns(chosen=pl.int_range(pl.len()) == best)


def _treated(  # noqa: PLR0917 - what, from what, and how
    learn: Learn, treatment: Treatment, rows: Rows, target: Floats, kept: float, seed: int
) -> Trees:
    events = target[rows] == 1
    if treatment == "weighted":
        return learn(rows, {"scale_pos_weight": float((~events).sum() / events.sum())})
    if treatment == "undersampled":
        others = rows[~events]
        count = min(round(kept * int(events.sum())), len(others))
        chosen = np.random.default_rng(seed).choice(others, count, replace=False)
        return learn(np.sort(np.concatenate([rows[events], chosen])), {})
    return learn(rows, {})
