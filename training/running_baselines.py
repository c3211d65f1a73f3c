"""Baselines that learn from a stream as a model does: after the test, from its micro-batches."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from training.evaluation.baselines import WeibullExpectation

Floats = npt.NDArray[np.float64]


def _groups(rows: Floats, column: int) -> npt.NDArray[np.int64]:
    """Each row's group: 0 where it is missing, else its code and one."""
    return np.nan_to_num(rows[:, column] + 1.0, nan=0.0).astype(np.int64)


class RunningMean:
    """The mean target of a group, of all that was learnt from; of a new group, that of all.

    Args:
        column: of the rows, with the group's code; NaN is a group of its own.
    """

    def __init__(self, column: int) -> None:
        self._column = column
        self._sums = np.zeros((64, 2))

    def predict(self, rows: Floats) -> Floats:
        """See `Learner`; 0 before anything was learnt."""
        groups = _groups(rows, self._column)
        total, count = self._sums.sum(axis=0)
        overall = total / count if count else 0.0
        known = groups < len(self._sums)
        sums = self._sums[np.where(known, groups, 0)]
        has = known & (sums[:, 1] > 0)
        return np.where(has, sums[:, 0] / np.maximum(sums[:, 1], 1.0), overall)

    def learn(self, rows: Floats, target: Floats) -> None:
        """See `Learner`."""
        groups = _groups(rows, self._column)
        while groups.max() >= len(self._sums):
            self._sums = np.concatenate([self._sums, np.zeros_like(self._sums)])
        np.add.at(self._sums, groups, np.c_[target, np.ones(len(target))])


class RunningWeibull:
    """What a group's Weibull distribution of durations expects, fitted anew now and then.

    Args:
        column: as `RunningMean`'s.
        refit_every: micro-batches between fits; the first comes after the first micro-batch.
        most: durations kept. All that closed so far, up to here; beyond, a uniform sample of all
            (Vitter's reservoir), so that memory does not grow with the log.
        seed: of the sample.

    Learns from log1p(seconds), and predicts them.
    """

    def __init__(self, column: int, *, refit_every: int, most: int, seed: int = 0) -> None:
        self._column = column
        self._refit_every = refit_every
        self._most = most
        self._rng = np.random.default_rng(seed)
        # Group and log1p(seconds).
        self._kept = np.zeros((min(1_024, most), 2))
        self._seen = 0
        self._batches = 0
        self._fitted: WeibullExpectation | None = None

    def predict(self, rows: Floats) -> Floats:
        """See `Learner`; 0 before anything was learnt."""
        if self._fitted is None:
            return np.zeros(len(rows))
        return self._fitted.predict(pl.Series(_groups(rows, self._column)))

    def learn(self, rows: Floats, target: Floats) -> None:
        """See `Learner`."""
        self._keep(np.c_[_groups(rows, self._column), target])
        if self._batches % self._refit_every == 0:
            kept = self._kept[: min(self._seen, self._most)]
            if len(np.unique(kept[kept[:, 1] > 0, 1])) > 1:  # else there is no distribution
                groups = pl.Series(kept[:, 0].astype(np.int64))
                self._fitted = WeibullExpectation.fit(groups, np.expm1(kept[:, 1]))
        self._batches += 1

    def _keep(self, new: Floats) -> None:
        held = min(self._seen, self._most)
        first, rest = new[: self._most - held], new[self._most - held :]
        while held + len(first) > len(self._kept):
            self._kept = np.concatenate([self._kept, np.zeros_like(self._kept)])[: self._most]
        self._kept[held : held + len(first)] = first
        self._seen += len(new)
        # Row number n of all stays with a chance of most / n, in a place of any.
        places = self._rng.integers(0, np.arange(self._seen - len(rest), self._seen) + 1)
        chosen = places < self._most
        self._kept[places[chosen]] = rest[chosen]
