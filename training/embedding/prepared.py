"""Sequences as the network is fed them, all at once, and what it is to tell from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feature_repo.scoring.embedding_inputs import (
    Codebook,
    Singles,
    log_balances,
    session_inputs,
    snapshot_inputs,
    time_inputs,
)
from feature_repo.scoring.embedding_sessions import Floats, Ints
from training.embedding.sequences import Sequences

HOURS = 12  # classes of the next session's hour
_US = 1_000_000
_DAY_US = 86_400 * _US


@dataclass(frozen=True)
class Prepared:
    """Inputs of all sessions of all customers; see `feature_repo.scoring.embedding_inputs`.

    Attributes:
        customers: (customers + 1,) where their sessions begin.
        events: (sessions + 1,) where their events begin; `shots`, where their snapshots do.
        hour: (sessions,) the hour (UTC) from which the clock of the session's country counts.
    """

    customers: Ints
    events: Ints
    shots: Ints
    codes: Ints
    numbers: Singles
    session_numbers: Singles
    corridor: Ints
    times: Singles
    elapsed: Singles
    snapshots: Singles
    hour: Floats


@dataclass(frozen=True)
class Targets:
    """What followed each session, of the same customer: (sessions,) each.

    Attributes:
        own: what the session itself was for.
        intent, hour: classes of the next session; -1 where there is none to be told.
        gap, amount: of the next session, standardised; NaN where there is none to be told.
    """

    own: Ints
    intent: Ints
    hour: Ints
    gap: Singles
    amount: Singles


def prepare(book: Codebook, sequences: Sequences) -> Prepared:
    """Prepare all sessions, as the encoder prepares one."""
    sessions, offsets = sequences.sessions, sequences.offsets
    given = session_inputs(book, sessions)
    customer = sequences.customer
    start, end = sessions.start_us, sessions.end_us
    place = np.arange(len(sessions)) - offsets[:-1][customer]
    times, elapsed = time_inputs(
        book,
        start,
        end,
        given.hour,
        before_us=np.concatenate([[0], end[:-1]]),
        first_us=start[offsets[:-1]][customer],
        sessions=place,
    )
    shots = sessions.snapshot_offsets
    return Prepared(
        offsets,
        sessions.offsets,
        shots,
        given.codes,
        given.numbers,
        given.session_numbers,
        given.corridor,
        times,
        elapsed,
        _snapshots(book, sequences),
        given.hour,
    )


def _snapshots(book: Codebook, sequences: Sequences) -> Singles:
    sessions = sequences.sessions
    # Where each customer's snapshots begin, and each snapshot's place among them.
    bounds = sessions.snapshot_offsets[sequences.offsets]
    count = np.diff(bounds)
    first = np.repeat(bounds[:-1], count)
    place = np.arange(len(first)) - first
    log = log_balances(sessions.snapshot_balance)
    total = np.concatenate([[0.0], np.cumsum(log)])
    return snapshot_inputs(
        book,
        sessions.snapshot_us,
        log,
        before_us=np.concatenate([[0], sessions.snapshot_us[:-1]])[: len(log)],
        last=np.concatenate([[0.0], log[:-1]])[: len(log)],
        total=total[:-1] - total[first] if len(log) else log,
        count=place,
    )


def targets_of(book: Codebook, sequences: Sequences, hour: Floats, known_us: int) -> Targets:
    """What was known at an instant to have followed each session.

    The next session has to have been over by then: what it was for is not known before. `hour` is
    `Prepared`'s.
    """
    sessions = sequences.sessions
    customer = sequences.customer
    count = len(sessions)
    following = np.zeros(count, dtype=bool)
    following[:-1] = (customer[1:] == customer[:-1]) & (sequences.over_us[1:] <= known_us)
    after = np.minimum(np.arange(1, count + 1), count - 1)
    start = sessions.start_us
    local = (start % _DAY_US) / (_DAY_US / 24) - hour
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
    )
