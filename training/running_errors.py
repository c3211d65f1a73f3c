"""Errors of several learners on the same sessions, kept as sums: by customer and over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from training.evaluation.bootstrap import Interval, drawn_interval

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# Rows of the table of errors over time: where there would be more, each covers twice as many.
_STRETCHES = 200


@dataclass(frozen=True)
class Judged:
    """n sessions that have closed.

    Attributes:
        rows: (n, width) what was known as they began.
        target: (n,).
        predictions: (n, learners) as they began.
        customers: (n,) whose.
        began_us: (n,) when, µs since 1970.
    """

    rows: Floats
    target: Floats
    predictions: Floats
    customers: npt.NDArray[np.object_]
    began_us: Ints

    def __len__(self) -> int:
        return len(self.target)

    def at(self, which: npt.NDArray[np.int64] | slice) -> Judged:
        """Some of them."""
        return Judged(
            self.rows[which],
            self.target[which],
            self.predictions[which],
            self.customers[which],
            self.began_us[which],
        )

    @staticmethod
    def joined(parts: list[Judged]) -> Judged:
        """Some, then others."""
        return Judged(
            np.concatenate([part.rows for part in parts]),
            np.concatenate([part.target for part in parts]),
            np.concatenate([part.predictions for part in parts]),
            np.concatenate([part.customers for part in parts]),
            np.concatenate([part.began_us for part in parts]),
        )


class Errors:
    """Squared errors of several learners on the same sessions, summed by customer and over time.

    Grows with the customers, not with the sessions.
    """

    def __init__(self, names: tuple[str, ...], stretch: int = 1_000) -> None:
        self.names = names
        self.sessions = 0
        self._number: dict[str, int] = {}
        # By customer: a column a learner, then the number of sessions.
        self._sums = np.zeros((1_024, len(names) + 1))
        self._stretch = stretch
        # Until when, then the same columns.
        self._over_time: list[list[float]] = []

    def add(self, judged: Judged) -> None:
        """Count these, in the order in which they closed."""
        squares = (judged.predictions - judged.target[:, None]) ** 2
        terms = np.c_[squares, np.ones(len(squares))]
        numbers = np.array(
            [self._number.setdefault(each, len(self._number)) for each in judged.customers],
            np.int64,
        )
        while len(self._number) > len(self._sums):
            self._sums = np.concatenate([self._sums, np.zeros_like(self._sums)])
        np.add.at(self._sums, numbers, terms)
        at = 0
        while at < len(terms):
            if not self._over_time or self._over_time[-1][-1] >= self._stretch:
                self._over_time.append([0.0] * (len(self.names) + 2))
            last = self._over_time[-1]
            some = terms[at : at + self._stretch - int(last[-1])]
            at += len(some)
            # Sessions close nearly in the order in which they began.
            until = max(last[0], float(judged.began_us[:at].max()))
            self._over_time[-1] = [until, *(np.array(last[1:]) + some.sum(axis=0)).tolist()]
        if len(self._over_time) > 2 * _STRETCHES:
            self._halve()
        self.sessions += len(terms)

    def rmse(self, name: str) -> float:
        """A learner's root mean squared error; NaN before the first session."""
        if not self.sessions:
            return float("nan")
        return float(np.sqrt(self._sums[:, self.names.index(name)].sum() / self.sessions))

    def standing(self) -> str:
        """All learners' errors so far, in a line."""
        if not self.sessions:
            return "none judged yet"
        return "RMSE " + ", ".join(f"{name} {self.rmse(name):.4f}" for name in self.names)

    def difference(
        self, ours: str, theirs: str, *, resamples: int = 1000, seed: int = 0
    ) -> Interval:
        """95 % interval of one RMSE less another, by paired draws of customers."""
        count = len(self._number)
        sums = self._sums[:count]
        sides = [sums[:, self.names.index(name)] for name in (ours, theirs)]

        def statistic(drawn: Floats) -> float:
            rows = drawn @ sums[:, -1]
            first, second = (float(np.sqrt(drawn @ side / rows)) for side in sides)
            return first - second

        return drawn_interval(statistic, count, resamples=resamples, seed=seed)

    def over_time(self) -> pl.DataFrame:
        """RMSE by stretch of equally many sessions: until, sessions, a column a learner."""
        rows = np.array(self._over_time).reshape(-1, len(self.names) + 2)
        with np.errstate(invalid="ignore", divide="ignore"):
            errors = np.sqrt(rows[:, 1:-1] / rows[:, -1:])
        return pl.DataFrame(
            {
                "until": pl.Series(rows[:, 0].astype(np.int64)).cast(pl.Datetime("us", "UTC")),
                "sessions": rows[:, -1].astype(np.int64),
                **{name: errors[:, at] for at, name in enumerate(self.names)},
            }
        )

    def _halve(self) -> None:
        pairs = zip(self._over_time[::2], self._over_time[1::2], strict=False)
        odd = self._over_time[-1:] if len(self._over_time) % 2 else []
        self._over_time = [
            [max(a[0], b[0]), *(np.array(a[1:]) + np.array(b[1:])).tolist()] for a, b in pairs
        ] + odd
        self._stretch *= 2
