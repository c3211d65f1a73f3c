"""Sequences as the network is fed them, all at once."""

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
