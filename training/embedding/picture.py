"""A map of customers' vectors: those who are near in 64 numbers are near on paper.

t-SNE (van der Maaten and Hinton, JMLR 2008) on a sample. Neighbourhoods mean something, distances
between far groups and their sizes do not.
"""

from __future__ import annotations

import io

import numpy as np
import polars as pl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.manifold import TSNE

from feature_repo.contracts.embeddings import Singles
from feature_repo.contracts.errors import DatasetError

_MOST = 2_000
_LEAST = 10
_COLOURS = (
    "#2a6f97", "#bc4b51", "#5b8e7d", "#f4a259", "#8cb369", "#7d5ba6", "#3d3d3d", "#c9a227",
)  # fmt: skip


def map_picture(
    vectors: Singles, groups: pl.Series, title: str, *, seed: int = 0, most: int = _MOST
) -> bytes:
    """Points on a plane, coloured by group, as a PNG.

    Args:
        vectors: (n, width) of length 1.
        groups: (n,) text; the most frequent get colours, null and the others grey.
        title: above the map.
        seed: of the sample and of the map.
        most: points drawn.

    Raises:
        DatasetError: fewer than ten vectors.
    """
    if len(vectors) < _LEAST:
        raise DatasetError(
            "vectors", len(vectors), f"at least {_LEAST}", "embed more customers first"
        )
    chosen = np.sort(np.random.default_rng(seed).permutation(len(vectors))[:most])
    plane = TSNE(
        n_components=2,
        metric="cosine",
        init="pca",
        perplexity=min(30.0, (len(chosen) - 1) / 3),
        random_state=seed,
        n_jobs=1,
    ).fit_transform(vectors[chosen].astype(np.float64))
    shown = groups.gather(chosen)
    counts = shown.drop_nulls().value_counts(sort=True)
    leading = counts[counts.columns[0]].head(len(_COLOURS)).to_list()
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.add_subplot()
    rest = ~shown.is_in(leading).fill_null(value=False).to_numpy()
    if rest.any():
        axes.scatter(plane[rest, 0], plane[rest, 1], s=6, color="#cccccc", label="other")
    for name, colour in zip(leading, _COLOURS, strict=False):
        its = (shown == name).fill_null(value=False).to_numpy()
        axes.scatter(plane[its, 0], plane[its, 1], s=6, color=colour, label=name)
    axes.set_title(title)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[["top", "right", "bottom", "left"]].set_visible(False)
    axes.legend(frameon=False, markerscale=2)
    image = io.BytesIO()
    # Without the version of matplotlib, the same map draws the same bytes.
    FigureCanvasAgg(figure)
    figure.savefig(image, format="png", dpi=100, metadata={"Software": None})
    return image.getvalue()
