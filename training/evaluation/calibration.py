"""From scores to probabilities that can be taken at their word, and how far they can be."""

from __future__ import annotations

import io
from typing import Literal, get_args

import numpy as np
import polars as pl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.model_files import Calibration
from training.evaluation.bootstrap import Clusters
from training.evaluation.metrics import LOG_LOSS, Floats

Method = Literal["isotonic", "sigmoid", "log_odds"]
METHODS: tuple[Method, ...] = get_args(Method)
_SIGMOID_POINTS = 201
# The log-odds of a chance nearer to 0 or 1 are taken as of this one.
_NEAREST = 1e-6


def fit_calibration(scores: Floats, target: Floats, method: Method = "isotonic") -> Calibration:
    """Learn the curve from a model's scores to probabilities, on rows that it was not trained on.

    Args:
        scores: (n,) the model's own; higher is likelier.
        target: (n,) 0 or 1.
        method: `isotonic` needs about a thousand events, `sigmoid` (Platt) makes do with fewer and
            bends one way only; `log_odds` is a sigmoid of the log-odds, for scores that are chances
            already.

    Raises:
        DatasetError: only one of both classes is there.

    Source: Niculescu-Mizil and Caruana, Predicting Good Probabilities, ICML 2005.
    """
    if not 0.0 < target.mean() < 1.0:
        raise DatasetError(
            "calibration part",
            f"{int(target.sum())} events in {len(target)} rows",
            "rows with the event and rows without",
            "widen the window",
        )
    # Rows without an event have not shown that there are none.
    least = 0.5 / (len(target) + 1)
    if method != "isotonic":
        scale = _log_odds if method == "log_odds" else np.asarray
        fitted = LogisticRegression(C=1e6).fit(scale(scores)[:, None], target)
        # Chances crowd near 0: as many points lie among the many as along the few.
        along = np.linspace(scores.min(), scores.max(), _SIGMOID_POINTS)
        among = np.quantile(scores, np.linspace(0, 1, _SIGMOID_POINTS))
        points = np.unique(np.concatenate([along, among]) if method == "log_odds" else along)
        chances = fitted.predict_proba(scale(points)[:, None])[:, 1]
        chances = (
            np.maximum.accumulate(chances)
            if fitted.coef_[0, 0] >= 0
            else chances * 0 + target.mean()
        )
        return Calibration(
            method, tuple(points.tolist()), tuple(np.clip(chances, least, 1 - least).tolist())
        )
    # Between its corners an isotonic fit is straight, as `Calibration` is.
    isotonic = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(scores, target)
    return Calibration(
        "isotonic",
        tuple(isotonic.X_thresholds_.tolist()),
        tuple(np.clip(isotonic.y_thresholds_, least, 1.0 - least).tolist()),
    )


def measured_calibration(
    scores: Floats, target: Floats, clusters: Clusters
) -> tuple[Calibration, pl.DataFrame]:
    """The method that does best on rows it was not fitted to, fitted to all of them.

    Each is fitted to every second cluster and judged by log loss on the others, and the other way
    round: judged on its own rows, the most pliable one would win.

    Args:
        scores, target: as of `fit_calibration`.
        clusters: (n,) customers, as numbers: what stays together.

    Returns:
        The calibration, and the table: method, log_loss, error (expected calibration error).

    Raises:
        DatasetError: one half has one class only.
    """
    half = np.unique(clusters, return_inverse=True)[1] % 2 == 0
    rows = []
    for method in METHODS:
        chance = np.empty(len(scores))
        for fitted_to in (half, ~half):
            curve = fit_calibration(scores[fitted_to], target[fitted_to], method)
            chance[~fitted_to] = curve.probability(scores[~fitted_to])
        rows.append(
            {
                "method": method,
                "log_loss": LOG_LOSS(target, chance),
                "error": expected_calibration_error(target, chance),
            }
        )
    table = pl.DataFrame(rows)
    best: Method = table.sort("log_loss", maintain_order=True)["method"][0]
    return fit_calibration(scores, target, best), table


def _log_odds(chance: Floats) -> Floats:
    inner = np.clip(chance, _NEAREST, 1.0 - _NEAREST)
    return np.asarray(np.log(inner) - np.log1p(-inner))


def reliability(target: Floats, chance: Floats, bins: int = 10) -> pl.DataFrame:
    """Predicted against observed, in bins of equally many rows: predicted, observed, rows.

    Equal chances stay together, so there may be fewer bins.
    """
    edges = np.quantile(chance, np.linspace(0, 1, bins + 1)[1:-1])
    place = np.searchsorted(np.unique(edges), chance, side="left")
    return (
        pl.DataFrame({"bin": place, "predicted": chance, "observed": target})
        .group_by("bin")
        .agg(pl.col("predicted").mean(), pl.col("observed").mean(), rows=pl.len())
        .sort("bin")
        .drop("bin")
    )


def expected_calibration_error(target: Floats, chance: Floats, bins: int = 10) -> float:
    """Mean distance between predicted and observed over `reliability`'s bins, by rows.

    >>> expected_calibration_error(np.array([0.0, 1.0]), np.array([0.5, 0.5]))
    0.0

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017; with bins of equal
    count, since the chances of rare events all lie in one bin of equal width.
    """
    table = reliability(target, chance, bins)
    distance = (table["predicted"] - table["observed"]).abs() * table["rows"]
    return float(distance.sum()) / len(target)


def reliability_picture(table: pl.DataFrame, title: str) -> bytes:
    """Observed over predicted, with the diagonal, as a PNG."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot()
    top = float(max(table["predicted"].max(), table["observed"].max(), 1e-6)) * 1.05  # type: ignore[type-var, arg-type]
    axes.plot([0, top], [0, top], color="#999999", linewidth=1)
    axes.plot(table["predicted"], table["observed"], marker="o", color="#2a6f97")
    axes.set(xlabel="predicted probability", ylabel="observed share", title=title)
    axes.set_xlim(0, top)
    axes.set_ylim(0, top)
    axes.spines[["top", "right"]].set_visible(False)
    image = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(image, format="png", dpi=100, metadata={"Software": None})
    return image.getvalue()
