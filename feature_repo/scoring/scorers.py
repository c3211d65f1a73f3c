"""What turns a matrix into scores: trees, trees that are also fed an anomaly, or a network."""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import lightgbm
import numpy as np
import numpy.typing as npt

from feature_repo.contracts.model_files import ANOMALY_FILE, NETWORK_FILE, TREES_FILE
from feature_repo.scoring.network import Network
from feature_repo.scoring.row_scorer import RowScorer

Floats = npt.NDArray[np.float64]


class Scorer(Protocol):
    """Scores rows of a model's matrix.

    Attributes:
        width: columns that it takes.
        classes: scores a row.
        exact: whether every machine makes the same bits of a row; networks' sums differ by
            processor.
    """

    @property
    def exact(self) -> bool: ...

    @property
    def width(self) -> int: ...

    @property
    def classes(self) -> int: ...

    def score(self, matrix: Floats) -> tuple[Floats, Floats | None]:
        """Of (n, width) rows, on the model's own scale: the scores, (n,) or (n, classes), and how
        far the rows are from normal traffic, (n,), where it can tell."""

    def contributions(self, matrix: Floats) -> tuple[Floats, Floats] | None:
        """The rows as they were fed, (n, fed), which may be wider by an anomaly, and each column's
        part in each score, (n, classes, fed); None where it cannot tell."""

    def files(self) -> dict[str, bytes]:
        """What it is stored as: file name -> content."""


class Trees:
    """LightGBM; where there is `anomaly`, its output is the last column that the trees are fed.

    A booster that was stopped early is cut to its best round, as its text is. `threads` are for
    many rows at once.
    """

    def __init__(
        self, booster: lightgbm.Booster, anomaly: Network | None = None, threads: int = 1
    ) -> None:
        if 0 < booster.best_iteration < booster.current_iteration():
            booster = lightgbm.Booster(model_str=booster.model_to_string())
        self.booster = booster
        self.anomaly = anomaly
        self._threads = threads
        self.width = booster.num_feature() - (anomaly is not None)
        self.classes = booster.num_model_per_iteration()
        self.exact = anomaly is None

    @cached_property
    def _rows(self) -> RowScorer:
        return RowScorer(self.booster, self.booster.num_feature(), self.classes, self._threads)

    def score(self, matrix: Floats) -> tuple[Floats, Floats | None]:
        """See `Scorer`."""
        if self.anomaly is None:
            return self._rows(matrix), None
        anomaly = self.anomaly(matrix)
        return self._rows(with_anomaly(matrix, anomaly)), anomaly

    def contributions(self, matrix: Floats) -> tuple[Floats, Floats]:
        """See `Scorer`: SHAP values, exact for trees."""
        fed = matrix if self.anomaly is None else with_anomaly(matrix, self.anomaly(matrix))
        found = np.asarray(self.booster.predict(fed, pred_contrib=True, num_threads=1))
        # A block of columns a class, the last of which is the mean.
        return fed, found.reshape(len(matrix), -1, fed.shape[1] + 1)[:, :, :-1]

    def files(self) -> dict[str, bytes]:
        """See `Scorer`."""
        found = {TREES_FILE: self.booster.model_to_string().encode()}
        if self.anomaly is not None:
            found[ANOMALY_FILE] = self.anomaly.raw
        return found


class NeuralScorer:
    """A network that gives the scores itself."""

    classes = 1
    exact = False

    def __init__(self, network: Network) -> None:
        self.network = network
        self.width = network.width

    def score(self, matrix: Floats) -> tuple[Floats, Floats | None]:
        """See `Scorer`."""
        return self.network(matrix), None

    def contributions(self, matrix: Floats) -> None:
        """See `Scorer`: nothing cheap tells."""
        del matrix

    def files(self) -> dict[str, bytes]:
        """See `Scorer`."""
        return {NETWORK_FILE: self.network.raw}


def with_anomaly(matrix: Floats, anomaly: Floats) -> Floats:
    """Rows (n, width) with their anomaly (n,) as the last column."""
    return np.column_stack([matrix, anomaly])
