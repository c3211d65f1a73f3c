"""Columns of dates and timestamps whose values may be rubbish.

A source may hold any 64-bit number as a timestamp; polars ends the process's work (a panic, not
an error) when it writes or shifts one beyond the calendar, so such values are handled as numbers.
"""

from __future__ import annotations

import polars as pl

from feature_repo.contracts.events import LATEST_EVENT, to_epoch_us

_DAY_US = 86_400_000_000
# Two days beyond the schema's latest event: out of range in whatever time zone it is taken.
_BEYOND_US = to_epoch_us(LATEST_EVENT) + 2 * _DAY_US
_YEAR_1_US, _YEAR_10000_US = -62_135_596_800_000_000, 253_402_300_800_000_000
_TICKS_PER_US = {"ms": 1e-3, "us": 1.0, "ns": 1e3}


def is_instant(dtype: pl.DataType) -> bool:
    """Whether a column's values are dates or timestamps."""
    return isinstance(dtype, pl.Date | pl.Datetime)


def bounded(column: pl.Series) -> pl.Series:
    """The same column with what the event schema refuses anyway moved next to its bounds."""
    return _clip(column, 0, _BEYOND_US)


def instant_text(column: pl.Series) -> pl.Series:
    """Texts of dates and timestamps; of the bare number where the calendar ends.

    >>> from datetime import date
    >>> instant_text(pl.Series([date(2024, 5, 1), None])).to_list()
    ['2024-05-01', None]
    """
    safe = _clip(column, _YEAR_1_US, _YEAR_10000_US - _DAY_US)
    text = safe.cast(pl.String)
    rubbish = safe.to_physical() != column.to_physical()
    if rubbish.any():
        number = column.to_physical().cast(pl.String)
        text = pl.select(pl.when(rubbish).then(number).otherwise(text)).to_series()
    return text


def _clip(column: pl.Series, lowest_us: int, highest_us: int) -> pl.Series:
    unit = getattr(column.dtype, "time_unit", None)
    ticks_per_us = 1 / _DAY_US if unit is None else _TICKS_PER_US[unit]
    physical = column.to_physical()
    # Nanoseconds reach from 1677 to 2262 only: bounds beyond them clip nothing.
    limit = 2**63 - 1 if unit is not None else 2**31 - 1
    lowest = max(round(lowest_us * ticks_per_us), -limit)
    highest = min(round(highest_us * ticks_per_us), limit)
    return physical.clip(lowest, highest).cast(column.dtype)
