"""Which inputs a gradient-boosted model leans on, as a table and as a picture."""

from __future__ import annotations

import io

import lightgbm as lgb
import polars as pl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def gain_importance(booster: lgb.Booster) -> pl.DataFrame:
    """Each input's total gain: columns feature, gain, share (of all gain), splits; by gain.

    Trap: gain favours inputs with many distinct values and splits credit between inputs that tell
    the same story; it ranks, it does not explain.
    """
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


def importance_picture(importance: pl.DataFrame, title: str, *, top: int = 20) -> bytes:
    """A bar chart of the largest shares, as a PNG."""
    shown = importance.filter(pl.col("gain") > 0).head(top).reverse()
    figure = Figure(figsize=(8, 0.8 + 0.3 * max(shown.height, 1)), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(shown["feature"].to_list(), (shown["share"] * 100).to_list(), color="#2a6f97")
    axes.set_xlabel("share of total gain (%)")
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    image = io.BytesIO()
    # Without the version of matplotlib, the same model draws the same bytes.
    FigureCanvasAgg(figure)
    figure.savefig(image, format="png", dpi=100, metadata={"Software": None})
    return image.getvalue()
