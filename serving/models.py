"""One served model: a version that was checked, and how it scores and explains itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from feature_repo.contracts.model_files import Answer
from feature_repo.contracts.model_inputs import ModelInputs
from feature_repo.scoring.one_version import OneVersion
from feature_repo.scoring.outputs import Outputs, Scored
from feature_repo.scoring.scorers import Scorer
from serving.read_plan import ReadPlan

Vector = npt.NDArray[np.float64]
# One input's part in a score: its name, what the model was fed (None: missing), its part.
Part = tuple[str, float | None, float]
# What an explanation calls the column that a version computes itself.
ANOMALY = "anomaly"


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
        scorer: the trees or the network.
        outputs: how its scores are read.
        golden_rows: on how many stored rows it was verified.
        guard: which vectors it may be fed; None where it is fed none. Its scorer sees to it; who
            reads rows tells by it.
    """

    name: str
    version: str
    alias: str
    inputs: ModelInputs
    plan: ReadPlan
    tags: dict[str, str]
    loaded_at: datetime
    scorer: Scorer
    outputs: Outputs
    golden_rows: int = 0
    guard: OneVersion | None = None

    @property
    def unit(self) -> str | None:
        """Unit of the prediction, such as `s`."""
        return self.tags.get("unit")

    @property
    def answer(self) -> Answer:
        """What it answers beyond one number."""
        return self.outputs.answer

    def score(self, matrix: Vector) -> Scored:
        """What it makes of a (n, width) matrix."""
        scores, anomalies = self.scorer.score(matrix)
        return self.outputs.of(scores, matrix, anomalies)

    def explain(self, matrix: Vector, top: int) -> list[list[Part]]:
        """The `top` columns that weighed most in each row's score, the heaviest first; none of a
        network's.

        Parts are SHAP values on the model's own scale: all of them and the model's mean add up to
        the raw score. Exact for trees (Lundberg et al. 2020, "From local explanations to global
        understanding with explainable AI for trees"), and far dearer than the score itself.
        """
        told = self.scorer.contributions(matrix)
        if told is None:
            return [[] for _ in matrix]
        fed, blocks = told
        place = np.zeros(len(matrix), np.intp)
        if self.answer.classes:
            place = self.score(matrix).predictions.astype(np.intp)
        parts = blocks[np.arange(len(matrix)), place]
        names = self._column_names()
        # Stable: columns that weigh the same keep the model's order.
        order = np.argsort(-np.abs(parts), axis=1, kind="stable")[:, : max(top, 0)]
        return [
            [
                (names[at], None if math.isnan(values[at]) else values[at], weights[at])
                for at in places
            ]
            for places, values, weights in zip(
                order.tolist(), fed.tolist(), parts.tolist(), strict=True
            )
        ]

    def _column_names(self) -> list[str]:
        columns = [
            f"{item.ref}[{place}]" if item.is_array else item.ref
            for item in self.inputs.inputs
            for place in range(item.width)
        ]
        return [*columns, ANOMALY]
