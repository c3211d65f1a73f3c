"""Population stability: how far a matrix' columns lie from those that a model was trained on.

The population stability index of a column is the sum over its bins of (p - q) ln(p / q), with the
shares p and q of the reference and of today: Jeffreys' divergence (1946), named and cut into
deciles by credit scoring (Siddiqi, Credit Risk Scorecards, 2006: below 0.1 nothing, above 0.25 a
shift). Two samples of one population differ too: then it is about (1/n + 1/m) times a chi-squared
variable of (bins - 1) degrees of freedom (Yurdakul & Naranjo, Statistical properties of the
population stability index, Journal of Risk Model Validation 14 (4), 2020). That mean is taken off,
and what does not exceed its upper quantile is no finding.

Rows of one customer are alike, so n and m are Kish's effective numbers of customers, not rows.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import chi2

from feature_repo.contracts.errors import ModelError

Floats = npt.NDArray[np.float64]

# Of numbers; a category keeps its most frequent values, and one bin for all others.
BINS = 10
# Chance of a finding where nothing has moved, over all columns together.
FALSE_ALARM = 0.01
# Added to every bin, in rows: a value never seen before is rare, not impossible (Jeffreys' prior).
_PRIOR = 0.5


class Column(msgspec.Struct, frozen=True):
    """A column's bins and what lay in them.

    Attributes:
        name: of the column.
        edges: upper ends of the bins of numbers, rising; the last bin has none. Empty: categories.
        values: the categories that have a bin each; one for all others follows.
        shares: of the bins, and of missing values as the last; they add up to 1.
    """

    name: str
    edges: tuple[float, ...]
    values: tuple[float, ...]
    shares: tuple[float, ...]

    def shares_of(self, values: Floats) -> Floats:
        """The shares of other values, shape (rows,), in the same bins."""
        missing = np.isnan(values)
        known = values[~missing]
        if self.edges:
            places = np.searchsorted(np.array(self.edges), known, side="left")
        else:
            kept = np.array(self.values)
            order = np.argsort(kept)
            found = order[np.minimum(np.searchsorted(kept[order], known), len(kept) - 1)]
            places = np.where(kept[found] == known, found, len(kept))
        counts = np.bincount(places, minlength=len(self.shares) - 1)
        return np.append(counts, missing.sum()) / max(len(values), 1)


class Reference(msgspec.Struct, frozen=True):
    """What a matrix looked like when a model was trained on it.

    Attributes:
        rows: there were.
        effective: that many independent ones, see `effective_rows`.
        columns: in the matrix' order.
    """

    rows: int
    effective: float
    columns: tuple[Column, ...]

    @classmethod
    def of(
        cls,
        matrix: Floats,
        names: Sequence[str],
        categorical: Sequence[str] = (),
        effective: float | None = None,
    ) -> Reference:
        """Describe a matrix (rows, columns), NaN where missing.

        Raises:
            ModelError: it has no row, or not a column a name.
        """
        if not len(matrix) or matrix.shape[1] != len(names):
            raise ModelError(
                "reference", matrix.shape, f"rows of {len(names)} columns", "widen the window"
            )
        return cls(
            rows=len(matrix),
            effective=float(len(matrix)) if effective is None else effective,
            columns=tuple(
                _column(name, values, category=name in categorical)
                for name, values in zip(names, matrix.T, strict=True)
            ),
        )

    def to_json(self) -> bytes:
        """Serialise, for the artifact beside the model."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, raw: bytes) -> Reference:
        """Read what `to_json` wrote.

        Raises:
            ModelError: the document is no such file.
        """
        try:
            return msgspec.json.decode(raw, type=cls)
        except msgspec.MsgspecError as error:
            raise ModelError(
                "reference.json", expected="a reference", action=f"remove it: {error}"
            ) from error


def effective_rows(customers: pl.Series) -> float:
    """How many independent rows these are worth, if rows of one customer say the same (Kish 1965).

    >>> effective_rows(pl.Series(["a", "b", "c"])), effective_rows(pl.Series(["a", "a", "a"]))
    (3.0, 1.0)
    """
    counts = customers.value_counts()["count"].to_numpy().astype(np.float64)
    return float(counts.sum() ** 2 / (counts**2).sum()) if len(counts) else 0.0


def stability(reference: Reference, matrix: Floats, effective: float | None = None) -> pl.DataFrame:
    """Compare a matrix with a reference, column by column; the least stable first.

    Args:
        reference: of the same columns.
        matrix: (rows, columns), at least one row.
        effective: independent rows (default: all).

    Returns:
        column, psi (what sampling alone would give taken off, at least 0), noise (the most that
        sampling alone would give), real (psi before that is more), missing_before and missing_now
        (shares).

    Raises:
        ModelError: no row, or other columns.
    """
    if not len(matrix) or matrix.shape[1] != len(reference.columns):
        raise ModelError(
            "rows", matrix.shape, f"some, of {len(reference.columns)} columns", "widen the window"
        )
    now_rows = float(len(matrix)) if effective is None else effective
    spread = 1.0 / reference.effective + 1.0 / now_rows
    level = 1.0 - FALSE_ALARM / len(reference.columns)
    found = []
    for column, values in zip(reference.columns, matrix.T, strict=True):
        before, now = np.array(column.shares), column.shares_of(values)
        index = stability_index(before, now, reference.effective, now_rows)
        freedom = max(int(((before > 0) | (now > 0)).sum()) - 1, 1)
        noise = spread * float(chi2.ppf(level, freedom))
        found.append(
            {
                "column": column.name,
                "psi": max(index - spread * freedom, 0.0),
                "noise": noise,
                "real": index > noise,
                "missing_before": float(before[-1]),
                "missing_now": float(now[-1]),
            }
        )
    return pl.DataFrame(found).sort("psi", "column", descending=[True, False])


def stability_index(before: Floats, now: Floats, rows_before: float, rows_now: float) -> float:
    """The population stability index of two samples' shares, shape (bins,).

    >>> even, shifted = np.array([0.5, 0.5]), np.array([0.6, 0.4])
    >>> round(stability_index(even, shifted, 1e9, 1e9), 4)
    0.0405
    """
    first, second = _with_prior(before, rows_before), _with_prior(now, rows_now)
    return float(((first - second) * np.log(first / second)).sum())


def _with_prior(shares: Floats, rows: float) -> Floats:
    return (shares * rows + _PRIOR) / (rows + _PRIOR * len(shares))


def _column(name: str, values: Floats, *, category: bool) -> Column:
    known = values[~np.isnan(values)]
    edges: tuple[float, ...] = ()
    kept: tuple[float, ...] = ()
    if category:
        codes, counts = np.unique(known, return_counts=True)
        kept = tuple(codes[np.argsort(-counts, kind="stable")][: BINS - 1].tolist()) or (0.0,)
    elif len(known):
        inner = np.quantile(known, np.arange(1, BINS) / BINS, method="lower")
        # What is less than all that was seen has a bin too: a constant may fall.
        edges = tuple(np.unique([np.nextafter(known.min(), -np.inf), *inner]).tolist())
    else:
        edges = (0.0,)
    bins = (len(edges) or len(kept)) + 2
    empty = Column(name, edges, kept, (0.0,) * bins)
    return msgspec.structs.replace(empty, shares=tuple(empty.shares_of(values).tolist()))


def stability_picture(
    found: pl.DataFrame,
    reference: Reference,
    matrix: Floats,
    *,
    marked: Sequence[str],
    categories: Mapping[str, Sequence[str]],
    title: str,
) -> bytes:
    """The least stable columns' indices, and the bins of the first three then and now, as a PNG.

    Args:
        found, reference, matrix: of `stability`.
        marked: columns in red.
        categories: column -> the names that its numbers stand for.
        title: above all.
    """
    shown = found.head(15).reverse()
    figure = Figure(figsize=(11, 1.2 + 0.28 * max(shown.height, 14)), layout="constrained")
    figure.suptitle(title)
    grid = figure.add_gridspec(3, 2)
    bars = figure.add_subplot(grid[:, 0])
    colours = ["#bc4b51" if name in marked else "#2a6f97" for name in shown["column"]]
    bars.barh(shown["column"].to_list(), shown["psi"].to_list(), color=colours)
    # Where nothing moved, nothing shows: the bars are not blown up to their width.
    bars.set_xlim(0.0, max(1.1 * float(found["psi"].max() or 0.0), 0.5))  # type: ignore[arg-type]
    bars.set_xlabel("stability index (red: drifted)")
    bars.spines[["top", "right"]].set_visible(False)
    names = [column.name for column in reference.columns]
    for row, name in enumerate(found["column"].head(3).to_list()):
        place = names.index(name)
        axes = figure.add_subplot(grid[row, 1])
        _bins(axes, reference.columns[place], matrix[:, place], categories.get(name, ()))
        if not row:
            axes.legend(fontsize=7, frameon=False)
    image = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(image, format="png", dpi=100, metadata={"Software": None})
    return image.getvalue()


def _bins(axes: Any, column: Column, values: Floats, categories: Sequence[str]) -> None:
    now = column.shares_of(values)
    labels = [
        *(
            f"≤ {edge:.3g}" if place or len(column.edges) == 1 else "less"
            for place, edge in enumerate(column.edges)
        ),
        *(
            categories[int(code)] if code < len(categories) else f"{code:g}"
            for code in column.values
        ),
        "more" if column.edges else "other",
        "none",
    ]
    places = np.arange(len(labels))
    axes.bar(places - 0.2, 100 * np.array(column.shares), 0.4, color="#9aa5b1", label="trained on")
    axes.bar(places + 0.2, 100 * now, 0.4, color="#2a6f97", label="now")
    axes.set_xticks(places, labels, fontsize=6, rotation=30)
    axes.set_ylabel("% of rows", fontsize=7)
    axes.tick_params(axis="y", labelsize=7)
    axes.set_title(column.name, fontsize=8, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
