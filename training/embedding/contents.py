"""What a session was like, and the customer's sessions on average: further things to tell.

A vector that only has to tell the next session's intent forgets the rest: that a payment failed,
that this session was unlike all before it. Whoever learns on frozen vectors needs that too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feature_repo.scoring.embedding_inputs import FIRST_NAME, SESSION_NUMBERS, Singles
from feature_repo.scoring.embedding_sessions import Floats
from training.embedding.prepared import Prepared

_LEAST_SPREAD = 0.05
_CLIP = 5.0


@dataclass(frozen=True)
class Contents:
    """Of each session.

    Attributes:
        happened: (sessions, types) 1 for each type of event that happened in it, else 0.
        numbers: (sessions, numbers) its own numbers, and the customer's means so far of these and
            of the logarithms of how often each type happened; standardised.
    """

    happened: Singles
    numbers: Singles


def widths(types: int) -> tuple[int, int]:
    """Columns of `happened` and of `numbers`, of so many codes of types."""
    named = types - FIRST_NAME
    return named, 2 * SESSION_NUMBERS + named


def contents_of(prepared: Prepared, types: int) -> Contents:
    """The contents of all sessions, `types` being how many codes of types there are."""
    named = np.arange(FIRST_NAME, types)
    first = prepared.events[:-1]
    counts = np.add.reduceat(prepared.codes[:, :1] == named, first, axis=0, dtype=np.float64)
    own = prepared.session_numbers.astype(np.float64)
    means = _standard(_means_so_far(prepared, _standard(np.hstack([own, np.log1p(counts)]))))
    return Contents(
        (counts > 0).astype(np.float32),
        np.hstack([_standard(own), means]).astype(np.float32),
    )


def _means_so_far(prepared: Prepared, told: Floats) -> Floats:
    """Of each customer's sessions up to each one."""
    first = prepared.customers[:-1]
    customer = np.repeat(np.arange(len(first)), np.diff(prepared.customers))
    sums = np.vstack([np.zeros((1, told.shape[1])), np.cumsum(told, axis=0)])
    number = np.arange(1, len(told) + 1) - first[customer]
    return np.asarray((sums[1:] - sums[first][customer]) / number[:, None])


def _standard(told: Floats) -> Floats:
    spread = np.maximum(told.std(axis=0), _LEAST_SPREAD)
    return np.asarray(np.clip((told - told.mean(axis=0)) / spread, -_CLIP, _CLIP))
