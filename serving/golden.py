"""Golden rows: a version that was loaded must make of them what it made when it was trained."""

from __future__ import annotations

from functools import partial

import numpy as np

from feature_repo.contracts.errors import ModelError
from feature_repo.contracts.model_files import Golden, Vector
from serving.models import ServedModel

# Loaded from its text a booster gives the same bits; what differs by more is another model.
RELATIVE = 1e-9
# A network sums single-precision numbers in an order that depends on the processor.
RELATIVE_OF_NETWORKS = 1e-4


def verify(model: ServedModel, golden: Golden) -> None:
    """Hold a loaded version to the rows stored with it.

    Raises:
        ModelError: an output differs by more than RELATIVE (RELATIVE_OF_NETWORKS where a network
            has a part in it), naming the first; or the rows are of another width.
    """
    label = f"golden rows of {model.name} version {model.version}"
    matrix = golden.matrix
    if matrix.shape[1] != model.inputs.width:
        raise ModelError(
            label, matrix.shape[1], f"{model.inputs.width} columns", "register the version again"
        )
    relative = RELATIVE if model.scorer.exact else RELATIVE_OF_NETWORKS
    hold = partial(_hold, label, relative)
    scores, predictions, probabilities, classes, _ = model.score(matrix)
    hold("score", scores, golden.scores)
    hold("prediction", predictions, golden.predictions)
    if (probabilities is None) != (golden.probabilities is None):
        raise ModelError(
            label,
            expected="probabilities where the version has a calibration, and only there",
            action="register the version again",
        )
    if (classes is None) != (golden.classes is None):
        raise ModelError(
            label,
            expected="chances of classes where the version has classes, and only there",
            action="register the version again",
        )
    if classes is not None and golden.classes is not None:
        for place, name in enumerate(model.answer.classes):
            stored = tuple(row[place] for row in golden.classes)
            hold(f"chance of {name}", classes[:, place], stored)
    if probabilities is not None and golden.probabilities is not None:
        hold("probability", probabilities, golden.probabilities)


def _hold(
    label: str, relative: float, what: str, found: Vector, expected: tuple[float, ...]
) -> None:
    stored = np.array(expected)
    differing = np.flatnonzero(~np.isclose(found, stored, rtol=relative, atol=1e-12))
    if differing.size:
        row = int(differing[0])
        raise ModelError(
            f"{what} of row {row} of the {label}",
            float(found[row]),
            f"{stored[row]!r}, as when it was trained ({differing.size} of {stored.size} differ)",
            "its files are not those that were registered: register it again",
        )
