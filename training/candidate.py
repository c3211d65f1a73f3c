"""A trained model with everything that its registered version will say of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from feature_repo.contracts.errors import ModelError
from feature_repo.contracts.model_files import Answer, Calibration, Golden
from feature_repo.contracts.model_inputs import ModelInputs
from feature_repo.scoring.one_version import OneVersion, guarded
from feature_repo.scoring.outputs import Outputs
from feature_repo.scoring.scorers import Scorer

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Candidate:
    """A trained model, ready to be registered.

    Attributes:
        inputs: what it is fed; `inputs.feature_service` is also the registered model's name.
        scorer: the trees or the network.
        target: what it predicts, such as `session_duration_s`.
        target_transform: what was done to the target before training (`log1p`); whoever serves
            undoes it.
        unit: of the target after undoing.
        metric_name, metric_value: the metric it is judged by, on the test part.
        metrics: all figures.
        params: configuration.
        window: start and end of the events it has seen.
        data_fingerprint: hash of its data set.
        importance: table of `training.importance`.
        pictures: file name -> PNG; `importance.png` is the one that the flow shows.
        tags: more tags for the version.
        examples: rows of the model's matrix, shape (n, width), on which whoever loads the version
            proves that it is this one (`golden_rows`).
        calibration: from score to probability, for a model of an event.
        card: what the model card says of its use: purpose, data, limits (Markdown).
        tables: file name without ending -> table.
        files: file name -> content, of what else it brings.
        answer: what it answers beyond one number: classes, percentiles.
    """

    inputs: ModelInputs
    scorer: Scorer
    target: str
    target_transform: str
    unit: str
    metric_name: str
    metric_value: float
    metrics: dict[str, float]
    params: dict[str, object]
    window: tuple[datetime, datetime]
    data_fingerprint: str
    importance: pl.DataFrame
    pictures: dict[str, bytes]
    tags: dict[str, str]
    examples: Matrix
    calibration: Calibration | None = None
    card: str = ""
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    answer: Answer | None = None

    @property
    def name(self) -> str:
        """The registered model's."""
        return self.inputs.feature_service

    def golden(self) -> Golden:
        """The examples with what the model makes of them.

        Where it is fed an embedding, the first one stands there once more at the end, with another
        version: whoever loads the version proves that it leaves that one out.

        Raises:
            ModelError: there are none, or the transform is unknown.
        """
        if not len(self.examples):
            raise ModelError(
                "examples of the candidate",
                0,
                "at least one row",
                "give it rows of its test part (golden_rows)",
            )
        outputs = Outputs.named(
            self.inputs.columns, self.target_transform, self.calibration, self.answer
        )
        rows, guard = self.examples, OneVersion.of(self.inputs)
        if guard is not None:
            another = rows[:1].copy()
            another[0, guard.column] = guard.only + 1
            rows = np.vstack([rows, another])
        scores, _ = guarded(self.scorer, self.inputs).score(rows)
        scored = outputs.of(scores, rows)
        return Golden.of(
            rows,
            scored.scores,
            scored.predictions,
            scored.probabilities,
            scored.classes,
        )


def golden_rows(matrix: Matrix, count: int = 32) -> Matrix:
    """Rows to store with a version: `count` spread evenly over a matrix, and one all missing.

    >>> golden_rows(np.arange(10.0).reshape(10, 1), count=3).ravel().tolist()
    [0.0, 4.0, 9.0, nan]
    """
    places = np.unique(np.linspace(0, len(matrix) - 1, min(count, len(matrix))).astype(np.int64))
    return np.vstack([matrix[places], np.full((1, matrix.shape[1]), np.nan)])


def identity_of(name: str, data_fingerprint: str, config_fingerprint: str) -> str:
    """What makes a version the same as another: model, data and configuration (16 hex digits).

    Training is deterministic, so equal identities are equal models: a window that is trained on
    twice makes one version.
    """
    text = "\n".join([name, data_fingerprint, config_fingerprint])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
