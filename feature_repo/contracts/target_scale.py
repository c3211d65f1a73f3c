"""From a model's scale back to its target's: what training did to the target, serving undoes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]


def _durations(scores: Vector) -> Vector:
    # What was trained on log1p is never negative; a tree may undershoot zero by a little.
    return np.maximum(np.expm1(scores), 0.0)


# Tag `target_transform` of a version -> what undoes it.
BACK_TRANSFORMS: Mapping[str, Callable[[Vector], Vector]] = {
    "": lambda scores: scores,
    "log1p": _durations,
}
