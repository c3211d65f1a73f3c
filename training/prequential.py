"""Test, then train: how good a model is that learns from a stream while it predicts.

A prediction is made as a session begins, with what was learnt by then. It counts when the session
has closed, and only then, with its whole micro-batch, the session is learnt from. Source: Gama,
Sebastiao and Rodrigues, On evaluating stream learning algorithms, Machine Learning 2013.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from training.running_errors import Errors, Floats, Ints, Judged


class Learner(Protocol):
    """Predicts and learns, in turns."""

    def predict(self, rows: Floats) -> Floats:
        """Predictions of (n, width) rows with what was learnt so far: (n,)."""
        ...

    def learn(self, rows: Floats, target: Floats) -> None:
        """Take in a micro-batch of (n, width) rows whose targets (n,) are known by now."""
        ...


class Prequential:
    """Runs several learners over the same sessions, each in the same turns.

    Args:
        learners: by name.
        micro_batch: sessions that are learnt from together.
        burn_in: of the first so many closed sessions nothing is judged: nobody has learnt yet.
        latest: so many of the sessions judged are kept, the latest.

    Attributes:
        errors: of the sessions judged.
        closed: sessions that closed, those of the burn-in included.
        trained: sessions that were learnt from.
    """

    def __init__(
        self, learners: Mapping[str, Learner], *, micro_batch: int, burn_in: int, latest: int
    ) -> None:
        self._learners = dict(learners)
        self._micro_batch = micro_batch
        self._burn_in = burn_in
        self._latest_rows = latest
        self._latest: deque[Judged] = deque()
        self._held = 0
        self._open = _Open(len(self._learners))
        self._queue: list[Judged] = []
        self._queued = 0
        self.errors = Errors(tuple(self._learners))
        self.closed = 0
        self.trained = 0

    @property
    def open(self) -> int:
        """Sessions predicted that have not closed: neither judged nor learnt from."""
        return len(self._open)

    def step(
        self,
        begun: Ints,
        begun_rows: tuple[Floats, npt.NDArray[np.object_], Ints],
        closed: tuple[Ints, Ints, Floats],
        joined: Ints,
    ) -> None:
        """What a batch of the log brought (`training.session_starts.Happened`).

        Args:
            begun: (b,) places at which sessions began, rising, behind all before.
            begun_rows: (b, width) what is known of each, (b,) customers, (b,) instants in µs.
            closed: (c,) sessions that closed, by where they began; (c,) the places at which they
                did, rising; (c,) their targets.
            joined: (j,) sessions that will not close.
        """
        waiting = self._open
        waiting.add(begun, *begun_rows)
        which, closed_at, target = closed
        known = waiting.has(which)
        which, closed_at, target = which[known], closed_at[known], target[known]
        at = 0
        while at < len(which):
            some = slice(at, at + self._micro_batch - self._queued)
            # With the weights of the moment: before anything that closes later is learnt from.
            waiting.predict(self._learners, before=int(closed_at[some][-1]))
            self._take(waiting.closed(which[some], target[some]))
            at += len(which[some])
        waiting.predict(self._learners, before=None)
        waiting.drop(np.concatenate([which, joined]))

    def _take(self, judged: Judged) -> None:
        """Judge sessions that have closed; learn from them once there are enough."""
        first = max(self._burn_in - self.closed, 0)
        self.closed += len(judged)
        if first < len(judged):
            tested = judged.at(slice(first, None))
            self.errors.add(tested)
            self._keep(tested)
        self._queue.append(judged)
        self._queued += len(judged)
        if self._queued == self._micro_batch:
            batch = Judged.joined(self._queue)
            for learner in self._learners.values():
                learner.learn(batch.rows, batch.target)
            self.trained += self._queued
            self._queue, self._queued = [], 0

    def _keep(self, judged: Judged) -> None:
        self._latest.append(judged)
        self._held += len(judged)
        while self._held - len(self._latest[0]) >= self._latest_rows:
            self._held -= len(self._latest.popleft())

    def latest(self) -> Judged | None:
        """The latest sessions judged, in the order in which they closed; None: there are none."""
        if not self._latest:
            return None
        return Judged.joined(list(self._latest)).at(slice(-self._latest_rows, None))


class _Open:
    """Sessions that have begun, by the places at which they did."""

    def __init__(self, learners: int) -> None:
        self._learners = learners
        self._places = np.zeros(0, np.int64)
        self._judged: Judged | None = None
        self._predicted = 0

    def __len__(self) -> int:
        return len(self._places)

    def add(
        self, places: Ints, rows: Floats, customers: npt.NDArray[np.object_], began_us: Ints
    ) -> None:
        nothing = np.full(len(places), np.nan)
        unknown = np.full((len(places), self._learners), np.nan)
        new = Judged(rows, nothing, unknown, customers, began_us)
        self._places = np.concatenate([self._places, places])
        self._judged = new if self._judged is None else Judged.joined([self._judged, new])

    def has(self, places: Ints) -> npt.NDArray[np.bool_]:
        return np.isin(places, self._places)

    def predict(self, learners: Mapping[str, Learner], before: int | None) -> None:
        """Predict those that began before a place, unless that was done as they began."""
        end = len(self) if before is None else int(np.searchsorted(self._places, before))
        if self._judged is None or end <= self._predicted:
            return
        some = slice(self._predicted, end)
        for number, learner in enumerate(learners.values()):
            self._judged.predictions[some, number] = learner.predict(self._judged.rows[some])
        self._predicted = end

    def closed(self, places: Ints, target: Floats) -> Judged:
        if self._judged is None:
            raise ValueError("nothing has begun")
        found = self._judged.at(np.searchsorted(self._places, places))
        return Judged(found.rows, target, found.predictions, found.customers, found.began_us)

    def drop(self, places: Ints) -> None:
        if self._judged is None:
            return
        stays = np.flatnonzero(~np.isin(self._places, places))
        self._places = self._places[stays]
        self._judged = self._judged.at(stays)
        self._predicted = len(self._places)
