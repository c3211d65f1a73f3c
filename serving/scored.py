"""What was scored, for those who watch: the feature log, the shadow, the streams of predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from serving.messages import Context, Decision
from serving.models import ServedModel
from serving.routing import Line
from serving.statuses import Statuses


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """Customers of one request whom one version scored; a request by two versions is two batches.

    Attributes:
        request_id: of the request; both batches of a request bear it.
        at: the instant as of which features were taken (UTC).
        model: the registered name.
        line: the models that served at that moment.
        served: the version that scored; its inputs are the columns of the matrix.
        customers: (n) ids.
        matrix: (n, width) numbers as fed, NaN where missing. Read-only for observers.
        statuses: (n) what became of each feature read.
        corridors: (n) the corridor whose features were used, if one was known.
        context: what the request brought.
        scores: (n) on the model's own scale.
        predictions: (n) in the model's unit.
        probabilities: (n) calibrated, or None where the model has none.
        decisions: (n) of the policy, or None without one.
        asked_corridor, counterparty: that the request named, if it did: with them and `context`
            another version is fed as this one was.
        classes: (n, classes) chances, or None where the model has no classes.
        anomalies: (n) how far from normal traffic, or None where the model cannot tell.
    """

    request_id: str
    at: datetime
    model: str
    line: Line
    served: ServedModel
    customers: Sequence[str]
    matrix: npt.NDArray[np.float64]
    statuses: Sequence[Statuses]
    corridors: Sequence[str | None]
    context: Context | None
    scores: Sequence[float]
    predictions: Sequence[float]
    probabilities: Sequence[float] | None
    decisions: Sequence[Decision | None] | None
    asked_corridor: str | None = None
    counterparty: str | None = None
    classes: Sequence[Sequence[float]] | None = None
    anomalies: Sequence[float] | None = None

    @property
    def version(self) -> str:
        """The version that scored every row."""
        return self.served.version

    @property
    def alias(self) -> str:
        """The alias under which it serves."""
        return self.served.alias


# Called after the answer is built, on the event loop: enqueues and returns within microseconds.
# What it raises is logged and harms no answer.
Observer = Callable[[ScoredBatch], None]
