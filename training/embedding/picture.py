"""A map of customers' vectors: those who are near in 64 numbers are near on paper.

t-SNE (van der Maaten and Hinton, JMLR 2008) on a sample. Neighbourhoods mean something, distances
between far groups and their sizes do not.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from feature_repo.contracts.embeddings import Singles
from feature_repo.contracts.errors import DatasetError
from feature_repo.scoring.embedding_sessions import Ints

_MOST = 2_000
_LEAST = 10
# Half of t-SNE's usual turns, and forces of farther groups taken together: a divergence of 1.289
# instead of 1.237 on twelve clusters of 2,000 vectors, in 2.7 s instead of 6.4 s.
_TURNS = 500
_ANGLE = 0.7
# Okabe and Ito's, which people who see colours otherwise can tell apart; most frequent first.
_COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000", "#F0E442",
)  # fmt: skip
_OTHER = "#c3cbd3"


@dataclass(frozen=True)
class Placed:
    """Customers' places on a plane.

    Attributes:
        chosen: (n,) which of the vectors were drawn.
        plane: (n, 2) where each lies.
    """

    chosen: Ints
    plane: npt.NDArray[np.float32]

    def picture(self, groups: pl.Series, title: str) -> bytes:
        """The points coloured by group, as a PNG.

        Args:
            groups: text for all vectors that there were; the most frequent get colours, null and
                the others grey.
            title: above the map.
        """
        shown = groups.gather(self.chosen)
        counts = shown.drop_nulls().value_counts(sort=True)
        counts = counts.sort("count", counts.columns[0], descending=[True, False])
        leading = dict(zip(counts[counts.columns[0]].to_list(), _COLOURS, strict=False))
        colours = [leading.get(name, _OTHER) for name in shown]
        figure = Figure(figsize=(8, 7), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        # All in one, in the customers' order: no group lies on top of the others.
        axes.scatter(self.plane[:, 0], self.plane[:, 1], s=10, c=colours, linewidths=0)
        legend = leading | ({"other": _OTHER} if _OTHER in colours else {})
        for name, colour in legend.items():
            axes.scatter([], [], s=10, color=colour, label=name)
        axes.set_title(title)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[["top", "right", "bottom", "left"]].set_visible(False)
        figure.legend(loc="outside lower center", ncols=5, frameon=False, markerscale=3)
        image = io.BytesIO()
        # Without the version of matplotlib, the same map draws the same bytes.
        figure.savefig(
            image, format="png", dpi=90, metadata={"Software": None}, pil_kwargs={"optimize": True}
        )
        return image.getvalue()


def placed(vectors: Singles, *, seed: int = 0, most: int = _MOST) -> Placed:
    """Lay vectors out on a plane; the same vectors always lie the same.

    Args:
        vectors: (n, width) of length 1.
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
    laid = TSNE(
        n_components=2,
        metric="cosine",
        init="pca",
        perplexity=min(30.0, (len(chosen) - 1) / 3),
        max_iter=_TURNS,
        angle=_ANGLE,
        random_state=seed,
    )
    # Its threads wait for each other at every turn, whatever n_jobs says: beside another process on
    # two cores that takes four times as long. And sums of several threads differ in the last bits.
    with threadpool_limits(1):
        plane = laid.fit_transform(vectors[chosen].astype(np.float64))
    return Placed(chosen, plane)


def map_picture(vectors: Singles, groups: pl.Series, title: str, *, seed: int = 0) -> bytes:
    """Vectors on a plane, coloured by group, as a PNG; see `placed` and `Placed.picture`."""
    return placed(vectors, seed=seed).picture(groups, title)
