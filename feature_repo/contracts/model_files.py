"""Files beside a model version: golden rows that prove it loaded right, and its calibration.

Written by training, read by serving; names and layout are storage format.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, Self

import msgspec
import numpy as np
import numpy.typing as npt

from feature_repo.contracts.errors import ModelError

GOLDEN_FILE = "golden.json"
CALIBRATION_FILE = "calibration.json"

Numbers = tuple[float, ...]
Vector = npt.NDArray[np.float64]


class _ModelFile(msgspec.Struct, frozen=True):
    def to_json(self) -> bytes:
        """Serialise, for the artifact beside the model."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, raw: bytes) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ModelError: the document is no such file.
        """
        try:
            return msgspec.json.decode(raw, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ModelError(
                cls.__name__.lower(), expected=(cls.__doc__ or "").splitlines()[0],
                action=f"register the version again: {error}",
            ) from error  # fmt: skip


class Golden(_ModelFile, frozen=True):
    """Rows of a version's matrix and what it must make of them.

    Attributes:
        rows: (n, width) numbers as the model is fed them, null where missing.
        scores: (n) on the model's own scale.
        predictions: (n) in the target's unit.
        probabilities: (n) calibrated, or null where the version has no calibration.
    """

    rows: tuple[tuple[float | None, ...], ...]
    scores: Numbers
    predictions: Numbers
    probabilities: Numbers | None = None

    def __post_init__(self) -> None:
        widths = {len(row) for row in self.rows}
        outputs = (self.scores, self.predictions, self.probabilities)
        counts = {len(part) for part in outputs if part is not None}
        if len(widths) != 1 or counts != {len(self.rows)}:
            raise ValueError("rows are of equal width, and each has its outputs")

    @property
    def matrix(self) -> Vector:
        """The rows as the model is fed them: shape (n, width), NaN where missing."""
        # NumPy makes NaN of None.
        return np.array(self.rows, dtype=np.float64)

    @classmethod
    def of(
        cls, matrix: Vector, scores: Vector, predictions: Vector, probabilities: Vector | None
    ) -> Golden:
        """From what a freshly trained model makes of a matrix."""
        return cls(
            rows=tuple(
                tuple(None if math.isnan(value) else value for value in row)
                for row in matrix.tolist()
            ),
            scores=tuple(scores.tolist()),
            predictions=tuple(predictions.tolist()),
            probabilities=None if probabilities is None else tuple(probabilities.tolist()),
        )


class Calibration(_ModelFile, frozen=True):
    """Points of a curve from score to probability; between them it is straight.

    An isotonic fit is its steps' corners; a sigmoid is sampled. Beyond the ends it stays level.

    >>> curve = Calibration("isotonic", (0.0, 1.0), (0.1, 0.5))
    >>> curve.probability(np.array([-1.0, 0.5, 3.0])).round(3).tolist()
    [0.1, 0.3, 0.5]
    """

    method: str
    scores: Numbers
    probabilities: Numbers

    def __post_init__(self) -> None:
        rising = all(low <= high for low, high in pairwise(self.scores))
        level = (0.0, *self.probabilities, 1.0)
        monotone = all(low <= high for low, high in pairwise(level))
        if not self.scores or len(self.scores) != len(self.probabilities):
            raise ValueError("scores and probabilities are equally many, and at least one")
        if not (rising and monotone):
            raise ValueError("scores and probabilities rise, and probabilities lie in 0..1")

    def probability(self, scores: Vector) -> Vector:
        """The probabilities that scores stand for: the same shape."""
        found: Any = np.interp(scores, self.scores, self.probabilities)
        return np.asarray(found, dtype=np.float64)
