"""One served model: a version that was checked, and how it scores and explains itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import lightgbm
import numpy as np
import numpy.typing as npt

from feature_repo.contracts.model_files import Calibration
from feature_repo.contracts.model_inputs import ModelInputs
from serving.read_plan import ReadPlan
from serving.row_scorer import RowScorer

Vector = npt.NDArray[np.float64]
# One input's part in a score: its name, what the model was fed (None: missing), its part.
Part = tuple[str, float | None, float]


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

    @property
    def unit(self) -> str | None:
        """Unit of the prediction, such as `s`."""
        return self.tags.get("unit")

    @cached_property
    def _scorer(self) -> RowScorer:
        return RowScorer(self.booster, self.inputs.width)

    def score(self, matrix: npt.NDArray[np.float64]) -> tuple[Vector, Vector, Vector | None]:
        """Scores of a (n, width) matrix on the model's scale, predictions in the target's unit,
        and calibrated probabilities where it has them: shape (n,) each.
        """
        scores = self._scorer(matrix)
        probabilities = None if self.calibration is None else self.calibration.probability(scores)
        return scores, self.back_transform(scores), probabilities

    def explain(self, matrix: npt.NDArray[np.float64], top: int) -> list[list[Part]]:
        """The `top` columns that weighed most in each row's score, the heaviest first.

        Parts are SHAP values on the model's own scale: all of them and the model's mean add up to
        the raw score. Exact for trees (Lundberg et al. 2020, "From local explanations to global
        understanding with explainable AI for trees"), and far dearer than the score itself.
        """
        found = self.booster.predict(matrix, pred_contrib=True, num_threads=1)
        parts = np.asarray(found, dtype=np.float64)[:, :-1]  # the last column is the mean
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
