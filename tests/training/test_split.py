"""Time-ordered splits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from feature_repo.contracts.errors import DatasetError
from training.split import split_by_time

DAY = datetime(2025, 1, 1, tzinfo=UTC)


def instants(*minutes: float) -> pl.Series:
    return pl.Series([DAY + timedelta(minutes=minute) for minute in minutes])


def test_parts_follow_each_other_and_the_gap_is_empty() -> None:
    series = instants(*range(1000))
    gap = timedelta(minutes=30)
    split = split_by_time(series, validation=0.2, test=0.3, gap=gap)
    train, validation, test = series[split.train], series[split.validation], series[split.test]
    assert (len(train), len(validation), len(test)) == (470, 170, 300)
    assert train[-1] < split.validation_start - gap <= validation[0] - gap
    assert validation[-1] < split.test_start - gap <= test[0] - gap


def test_examples_of_one_instant_stay_together() -> None:
    series = instants(*[0.0] * 5, *[1.0] * 5, *[2.0] * 5)
    split = split_by_time(series, validation=0.2, test=0.2, gap=timedelta(0))
    assert (split.train, split.validation, split.test) == (slice(0, 5), slice(5, 10), slice(10, 15))


def test_an_empty_part_is_an_error() -> None:
    with pytest.raises(DatasetError, match="train part"):
        split_by_time(instants(1), validation=0.2, test=0.3, gap=timedelta(0))
    with pytest.raises(DatasetError, match="leave none here after a gap of 2:00:00"):
        split_by_time(instants(*range(60)), validation=0.2, test=0.3, gap=timedelta(hours=2))
    with pytest.raises(DatasetError, match="at least one"):
        split_by_time(instants(), validation=0.2, test=0.3, gap=timedelta(0))


def test_unsorted_instants_are_an_error() -> None:
    with pytest.raises(DatasetError, match="ascending"):
        split_by_time(instants(2, 1), validation=0.2, test=0.3, gap=timedelta(0))
