"""Starting from a former version: its weights under the new codes, so that the space stays.

A network that is trained from nothing puts the same customers elsewhere: dimensions are permuted
and turned. Who has learnt on the old vectors, or compares a customer's of today with yesterday's,
needs the space kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from feature_repo.contracts.errors import ModelError
from feature_repo.scoring.embedding_inputs import FIRST_NAME, Codebook
from feature_repo.scoring.embedding_sessions import Floats
from training.embedding.shape import Shape

# A layer that older layouts do not have.
_NEWEST = "encoders.session_past.weight"
_TABLES = {
    "encoders.type_now.weight": "types",
    "encoders.type_before.weight": "types",
    "encoders.page_now.weight": "pages",
    "encoders.page_before.weight": "pages",
    "encoders.corridor.weight": "corridors",
}


@dataclass(frozen=True)
class Former:
    """A trained network: its codebook, shape and weights, heads among them, by torch's names."""

    book: Codebook
    shape: Shape
    weights: dict[str, npt.NDArray[Any]]


def carried_over(former: Former, book: Codebook, shape: Shape) -> dict[str, npt.NDArray[Any]]:
    """The former weights, for a codebook whose names are the former's and perhaps more.

    What a new name says is what an unknown one said, until training has moved it.

    Raises:
        ModelError: the network is of another shape, so that nothing can be taken over.
    """
    for field in ("event", "session", "corridor", "recurrent", "mean", "decays_days", "snapshot",
                  "joined"):  # fmt: skip
        ours, theirs = getattr(shape, field), getattr(former.shape, field)
        if ours != theirs:
            raise ModelError(
                field, ours, f"{theirs}, as of the version to start from",
                "keep the shape, or start from nothing",
            )  # fmt: skip
    weights = dict(former.weights)
    if _NEWEST not in weights:
        raise ModelError(
            "weights", "of an older layout", f"a network with {_NEWEST}",
            "start from nothing: remove the alias champion of customer_embedding",
        )  # fmt: skip
    for name, names in _TABLES.items():
        table = former.weights[name]
        old: Sequence[str] = getattr(former.book, names)
        new: Sequence[str] = getattr(book, names)
        if new[: len(old)] != old:
            raise ModelError(
                names, new[: len(old)], "the former version's names first",
                "learn the codebook from the former one",
            )  # fmt: skip
        added = np.repeat(table[:1], len(new) - len(old), axis=0)
        weights[name] = np.concatenate([table[: FIRST_NAME + len(old)], added])
    return weights


def cosines(one: Floats, other: Floats) -> Floats:
    """Of vectors, row by row: (n, width) and (n, width) -> (n,)."""
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray((one * other).sum(axis=1) / lengths)
