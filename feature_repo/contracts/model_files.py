"""Files of a model version: what scores, golden rows that prove it loaded right, its calibration.

Written by training, read by serving; names and layout are storage format.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Self

import msgspec
import numpy as np
import numpy.typing as npt

from feature_repo.contracts.errors import ModelError

INPUTS_FILE = "model_inputs.json"
GOLDEN_FILE = "golden.json"
CALIBRATION_FILE = "calibration.json"
ANSWER_FILE = "answer.json"
TREES_FILE = "model.lgb"
# A network whose output is the last column that the trees are fed.
ANOMALY_FILE = "anomaly.onnx"
# A network that is the model itself.
NETWORK_FILE = "model.onnx"
# Which embedding version the trees may be fed, where plain MLflow runs the version.
ONE_VERSION_FILE = "one_version.json"

# Tag of a registered model, and its value for one that answers no prediction.
KIND_TAG = "kind"
ENCODER_KIND = "encoder"

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
        classes: (n, classes) chances, or null where the version has no classes.
    """

    rows: tuple[tuple[float | None, ...], ...]
    scores: Numbers
    predictions: Numbers
    probabilities: Numbers | None = None
    classes: tuple[Numbers, ...] | None = None

    def __post_init__(self) -> None:
        widths = {len(row) for row in self.rows}
        outputs = (self.scores, self.predictions, self.probabilities, self.classes)
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
        cls,
        matrix: Vector,
        scores: Vector,
        predictions: Vector,
        probabilities: Vector | None,
        classes: Vector | None = None,
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
            classes=None if classes is None else tuple(map(tuple, classes.tolist())),
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


class Exposure(_ModelFile, frozen=True):
    """What a score is a multiple of: one of the row's own inputs, raised to a floor.

    A model of money learns how much more or less than before a customer will send; before is an
    input, over several orders of magnitude, which trees would cut into steps.

    Attributes:
        feature: the input's column.
        floor: added to it; a missing value counts as none.
        factor: that makes the predictions' total right.

    >>> Exposure("sent_90d_ref_minor", 10.0, 1.1).of(np.array([100.0, np.nan])).round(9).tolist()
    [121.0, 11.0]
    """

    feature: str
    floor: float
    factor: float

    def of(self, values: Vector) -> Vector:
        """What scores are to be multiplied with: the values' shape."""
        return self.factor * (self.floor + np.nan_to_num(values, nan=0.0))


class Percentiles(_ModelFile, frozen=True):
    """How far the truth lies from a prediction: its percentiles as multiples of it.

    Attributes:
        levels: such as 0.1, 0.5 and 0.9, rising.
        predictions: points, rising; between them multiples go straight, beyond them stay level.
        multiples: (levels, points).

    >>> Percentiles((0.1, 0.9), (0.0, 100.0), ((0.0, 0.5), (2.0, 1.5))).at(np.array([100.0]))
    array([[ 50., 150.]])
    """

    levels: Numbers
    predictions: Numbers
    multiples: tuple[Numbers, ...]

    def __post_init__(self) -> None:
        widths = {len(self.predictions), *map(len, self.multiples)}
        if len(widths) != 1 or len(self.multiples) != len(self.levels) or not self.predictions:
            raise ValueError("a multiple for each level at each point, of which there are some")
        if not all(low <= high for low, high in pairwise(self.predictions)):
            raise ValueError("the points rise")
        columns = zip(*self.multiples, strict=True)
        if not all(low <= high for column in columns for low, high in pairwise(column)):
            raise ValueError("a higher level has a higher multiple")

    @property
    def names(self) -> tuple[str, ...]:
        """`p10` for the level 0.1."""
        return tuple(f"p{level * 100:g}" for level in self.levels)

    def at(self, predictions: Vector) -> Vector:
        """The percentiles of n predictions: (n, levels)."""
        columns = [
            predictions * np.interp(predictions, self.predictions, multiples)
            for multiples in self.multiples
        ]
        return np.stack(columns, axis=1)


class Answer(_ModelFile, frozen=True, omit_defaults=True):
    """What a version answers beyond one number.

    Attributes:
        classes: names of what its chances are of, in the order of its outputs.
        exposure: what its score is a multiple of.
        percentiles: how far the truth lies from its prediction.
    """

    classes: tuple[str, ...] = ()
    exposure: Exposure | None = None
    percentiles: Percentiles | None = None

    def exposed(self, predictions: Vector, matrix: Vector, columns: Sequence[str]) -> Vector:
        """Predictions (n,) of rows (n, width) as multiples of the rows' exposure, if there is one.

        Raises:
            ModelError: the columns lack it.
        """
        if self.exposure is None:
            return predictions
        if self.exposure.feature not in columns:
            raise ModelError(
                "exposure", self.exposure.feature, "one of the inputs", "register it again"
            )
        return predictions * self.exposure.of(matrix[:, columns.index(self.exposure.feature)])

    @staticmethod
    def likeliest(chances: Vector) -> tuple[Vector, Vector]:
        """Of chances (n, classes) each row's highest, and the number of its class: (n,) each."""
        return chances.max(axis=1), chances.argmax(axis=1).astype(np.float64)
