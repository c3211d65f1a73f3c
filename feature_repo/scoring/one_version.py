"""Vectors of one embedding version alone: a row with another version's is a row without a vector.

What a model has learnt of one version's numbers says nothing of another's. Versions serve for a
while side by side: a customer's vector is replaced by another version's within seconds, a model
that was trained on the former one serves on until it is retrained.

Every scorer that is loaded is wrapped in `guarded`, so that whoever scores, the API or a flow,
feeds it no other version; the same file guards a version where plain MLflow runs it.
"""

from __future__ import annotations

from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt

from feature_repo.contracts.errors import ModelError
from feature_repo.contracts.model_files import ONE_VERSION_FILE
from feature_repo.contracts.model_inputs import ModelInputs
from feature_repo.scoring.scorers import Floats, Scorer


class OneVersion(msgspec.Struct, frozen=True):
    """The columns that count only beside one value.

    Attributes:
        column: where the version stands.
        only: the version that counts.
        first, last: the columns that are missing otherwise, from `first` up to before `last`; the
            version is among them.

    >>> guard = OneVersion(1, 3, 0, 2)
    >>> guard.fed(np.array([[0.5, 3.0, 7.0], [0.5, 4.0, 7.0]]))
    array([[0.5, 3. , 7. ],
           [nan, nan, 7. ]])
    """

    column: int
    only: int
    first: int
    last: int

    @classmethod
    def of(cls, inputs: ModelInputs) -> Self | None:
        """Of a version's inputs; None where no input asks for it.

        Raises:
            ModelError: two inputs ask for it, or the inputs of its view do not lie together.
        """
        asking = [item for item in inputs.inputs if item.only is not None]
        if not asking:
            return None
        view = asking[0].view
        lying = [
            (first, first + item.width)
            for item, first in zip(inputs.inputs, inputs.offsets, strict=True)
            if item.view == view
        ]
        first, last = lying[0][0], lying[-1][1]
        if len(asking) > 1 or last - first != sum(end - begin for begin, end in lying):
            raise ModelError(
                "inputs", [item.ref for item in asking],
                "one version at most, and the inputs of its view side by side",
                "train it again",
            )  # fmt: skip
        column = inputs.offsets[inputs.inputs.index(asking[0])]
        return cls(column, asking[0].only or 0, first, last)

    def others(self, matrix: Floats) -> npt.NDArray[np.bool_]:
        """Which rows (n, width) carry another version: (n,)."""
        versions = matrix[:, self.column]
        # What is missing is not equal to itself.
        return np.asarray((versions != self.only) & (versions == versions))  # noqa: PLR0124

    def take_out(self, matrix: Floats, rows: npt.NDArray[np.bool_]) -> None:
        """Make some rows' vectors missing, in place."""
        matrix[rows, self.first : self.last] = np.nan

    def fed(self, matrix: Floats) -> Floats:
        """What the model is fed of rows (n, width): a copy, where there is another version's."""
        without = matrix[:, self.column] != self.only
        if not without.any() or np.isnan(matrix[without, self.first : self.last]).all():
            return matrix
        found = matrix.copy()
        self.take_out(found, without)
        return found

    def to_json(self) -> bytes:
        """Serialise, for where a version is run without this project."""
        return msgspec.json.encode(self)


class GuardedScorer:
    """A scorer that is fed one embedding version's vectors alone."""

    def __init__(self, scorer: Scorer, guard: OneVersion) -> None:
        self.scorer, self.guard = scorer, guard
        self.width, self.classes, self.exact = scorer.width, scorer.classes, scorer.exact

    def score(self, matrix: Floats) -> tuple[Floats, Floats | None]:
        """See `Scorer`."""
        return self.scorer.score(self.guard.fed(matrix))

    def contributions(self, matrix: Floats) -> tuple[Floats, Floats] | None:
        """See `Scorer`."""
        return self.scorer.contributions(self.guard.fed(matrix))

    def files(self) -> dict[str, bytes]:
        """See `Scorer`."""
        return self.scorer.files() | {ONE_VERSION_FILE: self.guard.to_json()}


def guarded(scorer: Scorer, inputs: ModelInputs) -> Scorer:
    """The scorer, behind a guard where its inputs ask for one.

    Raises:
        ModelError: see `OneVersion.of`.
    """
    guard = OneVersion.of(inputs)
    return scorer if guard is None else GuardedScorer(scorer, guard)
