"""Which inputs a gradient-boosted model leans on, told three ways, as a table and as a picture.

Gain says what training used, permutation what the test part misses without it, SHAP how far it
moves single predictions. Where they disagree, permutation and SHAP are to be believed: gain favours
inputs with many distinct values.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from training.evaluation.metrics import Floats, Metric

Matrix = npt.NDArray[np.float64]
_PERMUTED_ROWS, _EXPLAINED_ROWS = 10_000, 2_000


def importance(
    booster: lgb.Booster,
    matrix: Matrix,
    target: Floats,
    metric: Metric,
    predict: Callable[[Matrix], Floats],
    *,
    seed: int = 0,
) -> pl.DataFrame:
    """Each column's weight: a row a column of the matrix, by SHAP.

    Args:
        booster: the trees.
        matrix: (n, width) the test part; samples of it are used.
        target: (n,) on the metric's scale.
        metric: what the model is judged by.
        predict: from a matrix to what the metric judges.
        seed: of the samples and permutations.

    Returns:
        feature; gain, share (of all gain), splits; permutation (how much worse the metric gets,
        positive is worse); shap (mean absolute contribution on the model's own scale, summed over
        classes).

    Source: Breiman, Random Forests, 2001 (permutation); Lundberg and Lee, NeurIPS 2017, and
    Lundberg et al. 2020 for trees (SHAP).

    Trap: inputs that tell the same story share the credit: each can be missed while another stays.
    """
    rng = np.random.default_rng(seed)
    used = np.flatnonzero(booster.feature_importance("split") > 0)  # the others cannot matter
    permuted = _permuted(matrix, target, metric, predict, used, rng)
    explained = matrix[_sample(len(matrix), _EXPLAINED_ROWS, rng)]
    return gain_importance(booster).join(
        pl.DataFrame(
            {
                "feature": booster.feature_name(),
                "permutation": permuted,
                "shap": _mean_contributions(booster, explained),
            }
        ),
        on="feature",
    ).sort("shap", "feature", descending=[True, False])  # fmt: skip


def permutation_importance(
    columns: Sequence[str],
    matrix: Matrix,
    target: Floats,
    metric: Metric,
    predict: Callable[[Matrix], Floats],
    *,
    seed: int = 0,
) -> pl.DataFrame:
    """As `importance`, of a model that is no trees: what is missed without each column.

    Returns:
        feature; permutation; share (of all that is missed); the weightiest first.
    """
    every = np.arange(len(columns))
    permuted = _permuted(matrix, target, metric, predict, every, np.random.default_rng(seed))
    missed = np.maximum(permuted, 0.0)
    share = missed / missed.sum() if missed.any() else missed
    return pl.DataFrame({"feature": list(columns), "permutation": permuted, "share": share}).sort(
        "permutation", "feature", descending=[True, False]
    )


def _permuted(  # noqa: PLR0917 - what is judged, by what, and which columns
    matrix: Matrix,
    target: Floats,
    metric: Metric,
    predict: Callable[[Matrix], Floats],
    columns: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> Floats:
    """How much worse the metric gets once a column's values are shuffled; 0 for other columns."""
    rows = _sample(len(matrix), _PERMUTED_ROWS, rng)
    some, truth = matrix[rows].copy(), target[rows]
    whole = metric(truth, predict(some))
    worse = -1.0 if metric.higher_is_better else 1.0
    permuted = np.zeros(some.shape[1])
    for column in columns:
        kept = some[:, column].copy()
        some[:, column] = rng.permutation(kept)
        permuted[column] = worse * (metric(truth, predict(some)) - whole)
        some[:, column] = kept
    return permuted


def _sample(count: int, most: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    return np.arange(count) if count <= most else np.sort(rng.choice(count, most, replace=False))


def _mean_contributions(booster: lgb.Booster, matrix: Matrix) -> Floats:
    parts = np.abs(np.asarray(booster.predict(matrix, pred_contrib=True, num_threads=1)))
    # A block of columns a class, the last of each its mean.
    blocks = parts.reshape(len(matrix), -1, matrix.shape[1] + 1)
    return np.asarray(blocks[:, :, :-1].sum(axis=1).mean(axis=0))


def gain_importance(booster: lgb.Booster) -> pl.DataFrame:
    """Each input's total gain: columns feature, gain, share (of all gain), splits; by gain."""
    table = pl.DataFrame(
        {
            "feature": booster.feature_name(),
            "gain": booster.feature_importance("gain"),
            "splits": booster.feature_importance("split"),
        },
        schema={"feature": pl.String, "gain": pl.Float64, "splits": pl.Int64},
    )
    total = table["gain"].sum()
    return table.select(
        "feature",
        "gain",
        (pl.col("gain") / total if total else pl.lit(0.0)).alias("share"),
        "splits",
    ).sort("gain", "feature", descending=[True, False])


_PANELS = {
    "share": ("share of gain (%)", 100.0, "#2a6f97"),
    "permutation": ("metric lost when permuted", 1.0, "#bc4b51"),
    "shap": ("mean |SHAP|", 1.0, "#5b8e7d"),
}


def importance_picture(importance: pl.DataFrame, title: str, *, top: int = 20) -> bytes:
    """Bars of the leading inputs, a panel a way of telling, as a PNG."""
    weight = "gain" if "gain" in importance.columns else "permutation"
    shown = importance.filter(pl.col(weight) > 0).head(top).reverse()
    panels = [name for name in _PANELS if name in shown.columns]
    size = (4 + 2.6 * len(panels), 0.9 + 0.3 * max(shown.height, 1))
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title)
    for place, name in enumerate(panels):
        label, scale, colour = _PANELS[name]
        axes = figure.add_subplot(1, len(panels), place + 1)
        axes.barh(shown["feature"].to_list(), (shown[name] * scale).to_list(), color=colour)
        axes.set_xlabel(label)
        axes.spines[["top", "right"]].set_visible(False)
        if place:
            axes.set_yticklabels([])
    image = io.BytesIO()
    # Without the version of matplotlib, the same model draws the same bytes.
    FigureCanvasAgg(figure)
    figure.savefig(image, format="png", dpi=100, metadata={"Software": None})
    return image.getvalue()
