"""Splitting examples by time: train on what came first, judge on what came last."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

import polars as pl

from feature_repo.contracts.errors import DatasetError


@dataclass(frozen=True)
class TimeSplit:
    """Row ranges of a frame sorted by time, and the instants at which the later parts begin."""

    train: slice
    validation: slice
    test: slice
    validation_start: datetime
    test_start: datetime

    def counts(self) -> dict[str, int]:
        """Examples a part."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part.stop - part.start for name, part in parts.items()}


def split_by_time(
    instants: pl.Series, *, validation: float, test: float, gap: timedelta
) -> TimeSplit:
    """Cut sorted instants into train, validation and test, in this order, without shuffling.

    Examples that start within `gap` before the next part begins are left out of the earlier one:
    their labels would arrive when the later part has already begun. All of them go, not only those
    whose label is late, since a late label goes with a long duration and the rest would be biased.

    Args:
        instants: when each example was asked, ascending.
        validation, test: shares of the examples, each above 0 and together below 1.
        gap: how long a label takes to arrive; zero for none.

    Raises:
        DatasetError: there are no instants, they are unsorted, or a part would be empty.

    >>> hours = [datetime(2025, 1, 1) + timedelta(hours=hour) for hour in range(10)]
    >>> cut = split_by_time(pl.Series(hours), validation=0.2, test=0.3, gap=timedelta(hours=1))
    >>> cut.train, cut.validation, cut.test
    (slice(0, 4, None), slice(5, 6, None), slice(7, 10, None))
    """
    if not instants.is_sorted():
        raise DatasetError("examples", expected="ascending instants", action="sort them by time")
    count = len(instants)
    if not count:
        raise DatasetError("examples", 0, "at least one", "widen the window")

    def start_of_last(share: float) -> datetime:
        return cast(datetime, instants[min(count - round(count * share), count - 1)])

    def before(instant: datetime) -> int:
        return instants.search_sorted(instant, side="left")

    validation_start, test_start = start_of_last(validation + test), start_of_last(test)
    parts = {
        "train": slice(0, before(validation_start - gap)),
        "validation": slice(before(validation_start), before(test_start - gap)),
        "test": slice(before(test_start), count),
    }
    for name, part in parts.items():
        if part.stop <= part.start:
            raise DatasetError(
                f"{name} part",
                0,
                "at least one example",
                f"widen the window: {count} examples leave none here after a gap of {gap}",
            )
    return TimeSplit(**parts, validation_start=validation_start, test_start=test_start)
