"""A simulated world for the embeddings' benchmark: its sequences, and the sessions judged."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl

from feature_repo.contracts.events import EventType
from feature_repo.scoring.embedding_sessions import Ints
from tests.training.simulated import FIRST_DAY, events_of, simulated_world
from training.embedding.sequences import Sequences, instant_us, sequences_of

DAYS = 60
_WHO = ("customer_id", "event_time")
# Known when training begins; what came later is judged.
KNOWN_DAYS = 45
WITHIN_US = 7 * 86_400_000_000
# A next session has begun within a week, and is known to be over three hours later.
GAP_US = WITHIN_US + 3 * 3_600_000_000


@dataclass(frozen=True)
class EmbeddingWorld:
    """A world's sequences, split by time.

    Attributes:
        calls: customer_id and event_time of the customers' calls.
        frauds: the same of payments that were fraud, as planted.
        known: what was known at `known_us`; the world ends at `end_us`.
        following: (sessions,) the next session's intent, -1 where there is none in the window.
        learnt: sessions whose next one was known when training began.
        judged: later sessions that were followed by another within a week, old enough that those
            who came back late are among them as those who came back soon.
        persona: (customers,) what was planted.
    """

    calls: pl.DataFrame
    frauds: pl.DataFrame
    sequences: Sequences
    known: Sequences
    known_us: int
    end_us: int
    following: Ints
    learnt: Ints
    judged: Ints
    persona: pl.Series


def embedding_world(customers: int, seed: int, **strengths: float) -> EmbeddingWorld:
    """Simulate and split."""
    simulation = simulated_world(customers, DAYS, seed, **strengths)
    events = events_of(simulation)
    sequences = sequences_of(events)
    known_us = instant_us(FIRST_DAY + timedelta(days=KNOWN_DAYS))
    end_us = instant_us(FIRST_DAY + timedelta(days=DAYS))
    sessions, customer = sequences.sessions, sequences.customer
    again = np.append(customer[1:] == customer[:-1], False)
    wait = np.append(sessions.start_us[1:] - sessions.end_us[:-1], 0)
    over = np.append(sequences.over_us[1:], 0)
    following = np.where(again, np.append(sequences.intent[1:], 0), -1)
    end = sessions.end_us
    return EmbeddingWorld(
        calls=events.filter(pl.col("event_type") == str(EventType.SUPPORT_CONTACT)).select(_WHO),
        frauds=simulation.truth.payments.filter(pl.col("fraud") != "none").select(_WHO),
        sequences=sequences,
        known=sequences.until(known_us),
        known_us=known_us,
        end_us=end_us,
        following=following,
        learnt=np.flatnonzero(again & (over <= known_us)),
        judged=np.flatnonzero(
            again & (wait <= WITHIN_US) & (end >= known_us) & (end + GAP_US <= end_us)
        ),
        persona=sequences.customer_id.to_frame("customer_id")
        .join(simulation.truth.customers, on="customer_id", how="left", maintain_order="left")
        .get_column("persona"),
    )
