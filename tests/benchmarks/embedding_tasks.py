"""Down-stream tasks of sessions: a linear head on frozen vectors against one on aggregates.

Of each session, as it ends: does the customer call within a day, and was it fraud? Heads learn from
the sessions whose answers had arrived when the encoder's training ended (after a day, after ten
days at the latest), and are judged on those that ended later, up to a day before the world's end.
Both heads are logistic regressions of standardised inputs, whose penalty is chosen on the latest
fifth of what is learnt from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from feature_repo.scoring.embedding_sessions import Ints
from tests.benchmarks.embedding_world import EmbeddingWorld
from training.embedding.sequences import Sequences
from training.evaluation.metrics import AVERAGE_PRECISION

Floats = npt.NDArray[np.float64]
Inputs = npt.NDArray[np.float32]

_DAY_US = 86_400_000_000
_PENALTIES = (0.01, 0.1, 1.0)


@dataclass(frozen=True)
class Task:
    """A question about sessions.

    Attributes:
        target: (sessions,) 1 or 0.
        learnt: sessions whose answer was known when the encoder's training ended, by time.
        judged: later ones whose answer is known at the end.
    """

    target: Floats
    learnt: Ints
    judged: Ints

    def told_by(self, inputs: Inputs) -> Floats:
        """A linear head's chances of the judged sessions, from (sessions, width) inputs."""
        early, late = np.split(self.learnt, [int(0.8 * len(self.learnt))])
        best = max(
            _PENALTIES,
            key=lambda penalty: AVERAGE_PRECISION(
                self.target[late],
                _head(penalty)
                .fit(inputs[early], self.target[early])
                .predict_proba(inputs[late])[:, 1],
            ),
        )
        head = _head(best).fit(inputs[self.learnt], self.target[self.learnt])
        return np.asarray(head.predict_proba(inputs[self.judged])[:, 1])


def tasks_of(world: EmbeddingWorld) -> dict[str, Task]:
    """The tasks of a world, by name."""
    sequences = world.sequences
    begin = _keys(sequences, sequences.customer, sequences.sessions.start_us)
    end = _keys(sequences, sequences.customer, sequences.sessions.end_us)
    calls, frauds = (_event_keys(sequences, events) for events in (world.calls, world.frauds))
    return {
        "call": _task(world, _within(calls, end + 1, end + _DAY_US), _DAY_US),
        "fraud": _task(world, _within(frauds, begin, end), 10 * _DAY_US),
    }


def _task(world: EmbeddingWorld, target: npt.NDArray[np.bool_], delay_us: int) -> Task:
    order = np.argsort(world.sequences.sessions.end_us, kind="stable")
    end_us = world.sequences.sessions.end_us[order]
    return Task(
        target.astype(float),
        order[end_us + delay_us <= world.known_us],
        order[(end_us >= world.known_us) & (end_us + _DAY_US <= world.end_us)],
    )


def _head(penalty: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=200))


def _keys(sequences: Sequences, customer: Ints, time_us: Ints) -> Ints:
    """One number for customer and time, which sorts by customer first."""
    return (customer << 44) + time_us - int(sequences.sessions.start_us.min())


def _event_keys(sequences: Sequences, events: pl.DataFrame) -> Ints:
    places = sequences.customer_id.to_frame("customer_id").with_row_index("place")
    known = events.join(places, on="customer_id")
    times = known["event_time"].dt.epoch("us").to_numpy()
    return np.sort(_keys(sequences, known["place"].cast(pl.Int64).to_numpy(), times))


def _within(events: Ints, first: Ints, last: Ints) -> npt.NDArray[np.bool_]:
    """Whether an event lies between first and last: all are keys, the events' sorted."""
    return np.asarray(
        np.searchsorted(events, last, "right") > np.searchsorted(events, first, "left")
    )
