"""How wrong several learners were as time went by, as a picture."""

from __future__ import annotations

import io

import polars as pl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_COLOURS = ("#2a6f97", "#bc4b51", "#999999", "#5b8e7d")


def errors_picture(over_time: pl.DataFrame) -> bytes:
    """Lines of `training.prequential.Errors.over_time`, one a learner, as a PNG."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.add_subplot()
    names = over_time.columns[2:]
    for name, colour in zip(names, _COLOURS, strict=False):
        axes.plot(over_time["until"].to_list(), over_time[name].to_list(), label=name, color=colour)
    axes.set_ylabel("RMSE, test then train")
    axes.tick_params(axis="x", rotation=30)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    image = io.BytesIO()
    # Without the version of matplotlib, the same figures draw the same bytes.
    FigureCanvasAgg(figure)
    figure.savefig(image, format="png", dpi=100, metadata={"Software": None})
    return image.getvalue()
