"""What the network learns to tell: what followed each session, and what the session was like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feature_repo.scoring.embedding_inputs import FIRST_NAME, Codebook, Singles
from feature_repo.scoring.embedding_sessions import Ints
from training.embedding.contents import Contents, contents_of
from training.embedding.prepared import Prepared
from training.embedding.sequences import Sequences

HOURS = 12  # classes of the next session's hour
_US = 1_000_000
_DAY_US = 86_400 * _US


@dataclass(frozen=True)
class Targets:
    """What is to be told of each session, and what followed it: (sessions,) each.

    Attributes:
        own: what the session itself was for.
        intent, hour: classes of the next session; -1 where there is none to be told.
        gap, amount: of the next session, standardised; NaN where there is none to be told.
        contents: of the session itself and of those before.
    """

    own: Ints
    intent: Ints
    hour: Ints
    gap: Singles
    amount: Singles
    contents: Contents


def targets_of(book: Codebook, sequences: Sequences, prepared: Prepared, known_us: int) -> Targets:
    """What was known at an instant to have followed each session.

    The next session has to have been over by then: what it was for is not known before. `prepared`
    are the sequences' own.
    """
    sessions = sequences.sessions
    customer = sequences.customer
    count = len(sessions)
    following = np.zeros(count, dtype=bool)
    following[:-1] = (customer[1:] == customer[:-1]) & (sequences.over_us[1:] <= known_us)
    after = np.minimum(np.arange(1, count + 1), count - 1)
    start = sessions.start_us
    local = (start % _DAY_US) / (_DAY_US / 24) - prepared.hour
    clock = ((local % 24) / (24 / HOURS)).astype(np.int64) % HOURS
    gap = book.standard("gap", np.log1p(np.maximum(start[after] - sessions.end_us, 0) / _US))
    paid = np.nan_to_num(sessions.amount_ref_minor, nan=0.0)
    most = np.maximum.reduceat(paid, sessions.offsets[:-1])
    amount = book.standard("amount", np.log1p(np.maximum(most, 0.0)))
    return Targets(
        sequences.intent,
        np.where(following, sequences.intent[after], -1),
        np.where(following, clock[after], -1),
        np.where(following, gap, np.nan).astype(np.float32),
        np.where(following & (most[after] > 0), amount[after], np.nan).astype(np.float32),
        contents_of(prepared, len(book.types) + FIRST_NAME),
    )
