"""Survival and hazard by group, as fitted and as seen."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from training.survival.samples import Floats, Samples
from training.survival.weibull import Weibull

_POINTS = 200
_COLUMNS = 4


def kaplan_meier(value: Floats, ended: np.ndarray) -> tuple[Floats, Floats]:
    """The share that lasts longer, after each end that was seen.

    Returns:
        The distinct whole values, rising, and the survival after each: both (ends,).

    Source: Kaplan and Meier, 1958.
    """
    times, counts = np.unique(value[ended], return_counts=True)
    at_risk = len(value) - np.searchsorted(np.sort(value), times, side="left")
    return times.astype(np.float64), np.cumprod(1 - counts / at_risk).astype(np.float64)


def survival_picture(
    samples: Samples, fitted: Weibull, names: list[str], unit: str, *, most: int = 12
) -> bytes:
    """The groups with the most values: survival fitted (line) and seen (steps), hazard (dashed)."""
    shown = np.argsort(-samples.count, kind="stable")[:most]
    shown = shown[(samples.ends[shown] > 0) & np.isfinite(fitted.k[shown])]
    rows = max(-(-len(shown) // _COLUMNS), 1)
    figure = Figure(figsize=(3.4 * _COLUMNS, 2.6 * rows), layout="constrained")
    for place, group in enumerate(shown):
        axes = figure.add_subplot(rows, _COLUMNS, place + 1)
        mine = samples.group == group
        value, ended = samples.value[mine], samples.ended[mine]
        points = np.linspace(value.max() / 1e4, np.quantile(value, 0.99), _POINTS)
        which = np.full(_POINTS, group)
        times, seen = kaplan_meier(value, ended)
        axes.step(times, seen, where="post", color="#999999", linewidth=1)
        axes.plot(points, fitted.survival(points, which), color="#2a6f97")
        axes.set(xlim=(0, points[-1]), ylim=(0, 1), xlabel=unit)
        axes.set_title(
            f"{names[group]}  k {fitted.k[group]:.2f}, $\\lambda$ {fitted.scale[group]:,.0f}",
            fontsize=9,
        )
        beside = axes.twinx()
        beside.plot(points, fitted.hazard(points, which), color="#bc4b51", ls="--", linewidth=1)
        beside.set_ylim(0, 4 / max(fitted.scale[group], 1e-9))
        beside.set_yticks([])
    figure.suptitle("survival: fitted (blue), seen (grey); hazard (red, dashed)", fontsize=10)
    image = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(image, format="png", dpi=90, metadata={"Software": None})
    return image.getvalue()
