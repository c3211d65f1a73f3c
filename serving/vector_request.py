"""What a request wants of a model version, and what it gets: rows read and scored."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from serving.messages import Context
from serving.statuses import Statuses

Matrix = npt.NDArray[np.float64]
NO_CONTEXT = Context()


class ScoringError(Exception):
    """A version failed on a matrix; the cause says how."""


@dataclass(frozen=True, slots=True)
class Vectors:
    """Rows of one request, read and scored.

    Attributes:
        as_of: the instant as of which they were read.
        matrix: (n, width).
        statuses: (n) what became of each feature.
        ages_s: (n) view -> seconds.
        corridors: (n) whose features were used.
        scores, predictions, probabilities: (n) each, as `ServedModel.score` gives them.
        classes: (n, classes), likewise.
        anomalies: (n,), likewise.
        others: how many rows had a vector of another embedding version, which was left out.
    """

    as_of: datetime
    matrix: Matrix
    statuses: list[Statuses]
    ages_s: list[dict[str, float]]
    corridors: list[str | None]
    scores: list[float]
    predictions: list[float]
    probabilities: list[float] | None
    classes: list[list[float]] | None = None
    anomalies: list[float] | None = None
    others: int = 0


Reading = asyncio.Future[Vectors]


@dataclass(slots=True)
class Wanted:
    """What one request wants; its rows begin at `first`."""

    customers: Sequence[str]
    as_of: datetime | None
    corridor: str | None
    counterparty: str | None
    context: Context
    first: int
    done: Reading
