"""One served model: a version that was checked, and how it scores and explains itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

import lightgbm
import numpy as np
import numpy.typing as npt

from feature_repo.contracts.model_files import Answer, Calibration
from feature_repo.contracts.model_inputs import ModelInputs
from serving.read_plan import ReadPlan
from serving.row_scorer import RowScorer

Vector = npt.NDArray[np.float64]
# One input's part in a score: its name, what the model was fed (None: missing), its part.
Part = tuple[str, float | None, float]


_NUMBER_ALONE = Answer()


class Scored(NamedTuple):
    """What a version makes of n rows.

    Attributes:
        scores: (n,) on the model's own scale; of classes, the highest chance.
        predictions: (n,) in the target's unit; of classes, the number of the likeliest.
        probabilities: (n,) calibrated, where it has a calibration.
        classes: (n, classes) chances, where it has classes.
    """

    scores: Vector
    predictions: Vector
    probabilities: Vector | None = None
    classes: Vector | None = None


@dataclass(frozen=True)
class ServedModel:
    """A model version that fits the features served.

    Attributes:
        name: registered name.
        version: version in the registry.
        alias: the alias under which it serves.
        inputs: ordered inputs and their encoding.
        plan: how to read the inputs online.
        tags: the version's tags.
        loaded_at: when it was loaded (UTC).
        booster: the trees.
        back_transform: from the model's scale to the target's.
        calibration: from score to probability, for a model of an event.
        golden_rows: on how many stored rows it was verified.
        answer: what it answers beyond one number.
    """

    name: str
    version: str
    alias: str
    inputs: ModelInputs
    plan: ReadPlan
    tags: dict[str, str]
    loaded_at: datetime
    booster: lightgbm.Booster
    back_transform: Callable[[Vector], Vector]
    calibration: Calibration | None = None
    golden_rows: int = 0
    answer: Answer = _NUMBER_ALONE

    @property
    def unit(self) -> str | None:
        """Unit of the prediction, such as `s`."""
        return self.tags.get("unit")

    @cached_property
    def _scorer(self) -> RowScorer:
        return RowScorer(self.booster, self.inputs.width, max(len(self.answer.classes), 1))

    def score(self, matrix: npt.NDArray[np.float64]) -> Scored:
        """What it makes of a (n, width) matrix."""
        scores = self._scorer(matrix)
        if self.answer.classes:
            return Scored(*self.answer.likeliest(scores), classes=scores)
        probabilities = None if self.calibration is None else self.calibration.probability(scores)
        predictions = self.back_transform(scores)
        if self.answer.exposure is not None:
            predictions = self.answer.exposed(predictions, matrix, self.inputs.columns)
        return Scored(scores, predictions, probabilities)

    def explain(self, matrix: npt.NDArray[np.float64], top: int) -> list[list[Part]]:
        """The `top` columns that weighed most in each row's score, the heaviest first.

        Parts are SHAP values on the model's own scale: all of them and the model's mean add up to
        the raw score. Exact for trees (Lundberg et al. 2020, "From local explanations to global
        understanding with explainable AI for trees"), and far dearer than the score itself.
        """
        found = self.booster.predict(matrix, pred_contrib=True, num_threads=1)
        # A block of columns a class, the last of which is the mean.
        blocks = np.asarray(found, dtype=np.float64).reshape(len(matrix), -1, self.inputs.width + 1)
        place = np.zeros(len(matrix), np.intp)
        if self.answer.classes:
            place = self.score(matrix).predictions.astype(np.intp)
        parts = blocks[np.arange(len(matrix)), place, :-1]
        names = self._column_names()
        # Stable: columns that weigh the same keep the model's order.
        order = np.argsort(-np.abs(parts), axis=1, kind="stable")[:, : max(top, 0)]
        return [
            [
                (names[at], None if math.isnan(values[at]) else values[at], weights[at])
                for at in places
            ]
            for places, values, weights in zip(
                order.tolist(), matrix.tolist(), parts.tolist(), strict=True
            )
        ]

    def _column_names(self) -> list[str]:
        return [
            f"{item.ref}[{place}]" if item.is_array else item.ref
            for item in self.inputs.inputs
            for place in range(item.width)
        ]
