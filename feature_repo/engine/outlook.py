"""How much longer an open session is expected to last, at the moment of asking. No Feast in here.

From the corridor's Weibull distribution of durations (view `corridor_durations`) and how long the
session has lasted: the mean residual life, as if the customer were still there. A session is open
until half an hour has passed without an event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import gamma, gammaincc

from feature_repo.contracts.feature_set import load_feature_set
from feature_repo.contracts.features import CUSTOMER
from feature_repo.contracts.outlook import (
    ELAPSED,
    OUTLOOK_VIEW,
    REMAINING,
    SCALE,
    SESSION_START_REF,
    SHAPE,
)
from feature_repo.contracts.states import AS_OF_FIELD, state_feature
from feature_repo.engine.program import compile_program
from feature_repo.engine.read import read_states

Floats = npt.NDArray[np.float64]

# From here on the incomplete gamma function is all cancellation.
_FAR = 300.0


def expected_remaining(elapsed: Floats, k: Floats, scale: Floats) -> Floats:
    """How much longer, on average, what has lasted for `elapsed` will last; same unit and shape.

    The mean residual life of a Weibull variable: scale * Gamma(1 + 1/k, x) / exp(-x) - elapsed,
    with x = (elapsed / scale)^k; for large x by its asymptote, scale^k t^(1-k) / k. NaN where an
    argument is.

    >>> expected_remaining(np.array([0.0, 100.0]), np.array([1.0, 1.0]), np.array([60.0, 60.0]))
    array([60., 60.])
    """
    elapsed = np.maximum(elapsed, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = (elapsed / scale) ** k
        near = np.minimum(x, _FAR)
        shape = 1 + 1 / k
        exact = scale * gamma(shape) * gammaincc(shape, near) * np.exp(near) - elapsed
        far = scale / k * (elapsed / scale) ** (1 - k)
    return np.asarray(np.where(x < _FAR, np.maximum(exact, 0.0), np.where(np.isnan(x), x, far)))


def outlook(
    start_us: Sequence[int | None], as_of_us: Any, k: Sequence[Any], scale_s: Sequence[Any]
) -> tuple[Floats, Floats]:
    """Seconds elapsed and expected still, (n,) each; NaN without an open session or a fit.

    Args:
        start_us: when each open session began, µs since 1970; None: none is open.
        as_of_us: (n,) the instants asked for.
        k, scale_s: (n,) the corridors' distributions.
    """
    begun = np.array([np.nan if start is None else start for start in start_us], dtype=np.float64)
    elapsed = (np.asarray(as_of_us, dtype=np.float64) - begun) / 1e6
    shape, scale = (np.array(list(each), dtype=np.float64) for each in (k, scale_s))
    return elapsed, expected_remaining(elapsed, shape, scale)


def source_of(definitions: Path | None) -> str:
    """The source of the view's function (see `feature_repo.engine.on_demand.source_of`)."""
    path = None if definitions is None else str(definitions)
    return (
        f"def {OUTLOOK_VIEW}(inputs):\n"
        "    from feature_repo.engine.outlook import evaluate\n\n"
        f"    return evaluate({path!r}, inputs)\n"
    )


def evaluate(definitions: str | None, inputs: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """What Feast's on-demand view runs: a list with one value a row, by both kinds of name."""
    feature_set = load_feature_set(None if definitions is None else Path(definitions))
    program = compile_program(feature_set, feature_set.entity(CUSTOMER.name))
    as_of_us = np.asarray(inputs[AS_OF_FIELD], dtype=np.int64)
    read = read_states(program, inputs[state_feature(CUSTOMER.name)], as_of_us)
    starts = read.column(SESSION_START_REF.partition(":")[2]).to_pylist()
    found = outlook(starts, as_of_us, inputs[SHAPE], inputs[SCALE])
    values: dict[str, list[Any]] = {}
    for name, column in zip((ELAPSED, REMAINING), found, strict=True):
        plain = [None if np.isnan(value) else float(value) for value in column]
        values[name] = values[f"{OUTLOOK_VIEW}__{name}"] = plain
    return values
