"""From a model's raw scores to what its version answers, to training and serving alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from feature_repo.contracts.errors import ModelError
from feature_repo.contracts.model_files import Answer, Calibration, Vector
from feature_repo.contracts.target_scale import BACK_TRANSFORMS

_NUMBER_ALONE = Answer()


class Scored(NamedTuple):
    """What a version makes of n rows.

    Attributes:
        scores: (n,) on the model's own scale; of classes, the highest chance.
        predictions: (n,) in the target's unit; of classes, the number of the likeliest.
        probabilities: (n,) calibrated, where it has a calibration.
        classes: (n, classes) chances, where it has classes.
        anomalies: (n,) how far from normal traffic, where it has a network that tells.
    """

    scores: Vector
    predictions: Vector
    probabilities: Vector | None = None
    classes: Vector | None = None
    anomalies: Vector | None = None


@dataclass(frozen=True)
class Outputs:
    """How the scores of a version are read.

    Attributes:
        columns: names of the matrix' columns, for an exposure.
        back_transform: from the model's scale to the target's.
        calibration: from score to probability, for a model of an event.
        answer: what it answers beyond one number.
    """

    columns: tuple[str, ...]
    back_transform: Callable[[Vector], Vector]
    calibration: Calibration | None = None
    answer: Answer = _NUMBER_ALONE

    @classmethod
    def named(
        cls,
        columns: tuple[str, ...],
        target_transform: str,
        calibration: Calibration | None = None,
        answer: Answer | None = None,
    ) -> Outputs:
        """From the name of the target's transform, as a version's tag has it.

        Raises:
            ModelError: there is no such transform.
        """
        if target_transform not in BACK_TRANSFORMS:
            raise ModelError(
                "target_transform",
                target_transform,
                f"one of {sorted(BACK_TRANSFORMS)}",
                "mend the tag",
            )
        back = BACK_TRANSFORMS[target_transform]
        return cls(columns, back, calibration, _NUMBER_ALONE if answer is None else answer)

    def of(self, scores: Vector, matrix: Vector, anomalies: Vector | None = None) -> Scored:
        """What scores (n,) or (n, classes) of a (n, width) matrix stand for."""
        if self.answer.classes:
            return Scored(*self.answer.likeliest(scores), classes=scores)
        probabilities = None if self.calibration is None else self.calibration.probability(scores)
        predictions = self.back_transform(scores)
        if self.answer.exposure is not None:
            predictions = self.answer.exposed(predictions, matrix, self.columns)
        return Scored(scores, predictions, probabilities, anomalies=anomalies)

    def judged(self, scores: Vector, matrix: Vector) -> Vector:
        """The numbers on which versions of a name are compared: chances or probabilities where
        there are some, else scores as multiples of their exposure."""
        if self.calibration is not None:
            return self.calibration.probability(scores)
        return self.answer.exposed(scores, matrix, self.columns)
