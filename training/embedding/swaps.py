"""Sessions put in the place of others: what a vector has to tell from the customer's own.

An account that is taken over shows a session like any other, but not like this customer's. So a
session is swapped for another customer's of the same kind, in the same corridor and for the same
purpose, and the vector is to say whether the last session was the customer's own. Nobody labels
anything for that.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from feature_repo.scoring.embedding_sessions import Ints


class Swaps(NamedTuple):
    """Pairs of places among a chunk's sessions: (pairs,) each."""

    here: torch.Tensor
    other: torch.Tensor


def draw_swaps(corridor: Ints, intent: Ints, customer: Ints, share: float) -> Swaps:
    """For a share of sessions, another customer's of the same corridor and intent.

    Args:
        corridor, intent, customer: of each session, as numbers: (sessions,).
        share: of sessions that have such a one beside them in a random order; 0 makes no pairs.

    Random numbers are torch's, so that the seed of the training decides.
    """
    turn, taken = torch.rand(2, len(corridor)).numpy()
    order = np.lexsort([turn, intent, corridor])
    other = np.roll(order, -1)
    fits = (
        (corridor[order] == corridor[other])
        & (intent[order] == intent[other])
        & (customer[order] != customer[other])
        & (taken < share)
    )
    return Swaps(torch.from_numpy(order[fits]), torch.from_numpy(other[fits]))
