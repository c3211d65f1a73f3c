"""The handbook's splits of the card transactions: a week of training, of delay, of test."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

WEEK = timedelta(days=7)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Fold:
    """Seven days of training from `start`, seven in which labels come, seven of test."""

    start: date

    @property
    def delay(self) -> date:
        """First day after training."""
        return self.start + WEEK

    @property
    def test(self) -> date:
        """First day of test."""
        return self.start + 2 * WEEK

    def __str__(self) -> str:
        return self.start.isoformat()


@dataclass(frozen=True)
class Parts:
    """A fold's rows, in the frame's order."""

    train: pl.DataFrame
    test: pl.DataFrame


# Everything is chosen on the first four, and judged on the others. The last test day of the former
# is July 31, so that no row of theirs is a test row of the latter.
TUNING = tuple(Fold(date(2018, month, day)) for month, day in ((7, 11), (7, 4), (6, 27), (6, 20)))
TEST = tuple(Fold(date(2018, month, day)) for month, day in ((8, 15), (8, 8), (8, 1), (7, 25)))
SINGLE = TEST[-1]


def split(frame: pl.DataFrame, fold: Fold) -> Parts:
    """Cut a fold from transactions, without the cards that are known to be compromised.

    A card is known on a test day if it was defrauded in the training week, or in the delay so long
    before that its label has come: a week and a day before the test day, or earlier. Labels of
    the test week itself are never used.

    Args:
        frame: columns `date`, `card`, `fraud` (0 or 1) and any others.

    Source: Le Borgne et al. 2022, ch. 5, "Validation strategies".
    """
    train = frame.filter(pl.col("date").is_between(fold.start, fold.delay, closed="left"))
    defrauded = frame.filter(pl.col("fraud") == 1)
    days = []
    for after in range(WEEK // DAY):
        day = fold.test + after * DAY
        known = defrauded.filter(
            pl.col("date").is_between(fold.start, day - WEEK - DAY, closed="both")
        )
        of_day = frame.filter(pl.col("date") == day)
        days.append(of_day.join(known.select("card").unique(), on="card", how="anti"))
    return Parts(train, pl.concat(days))
