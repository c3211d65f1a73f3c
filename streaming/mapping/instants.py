"""From a source column to instants: timestamps, numbers since 1970, ISO 8601 and other texts."""

from __future__ import annotations

import polars as pl

from feature_repo.contracts.events import LATEST_EVENT, to_epoch_us
from streaming.mapping.convert import Converted, Fault, fault, to_number, to_text
from streaming.mapping.temporal import bounded, is_instant

_US_PER = {"us": 1, "ms": 1_000, "s": 1_000_000}
_LATEST_US = to_epoch_us(LATEST_EVENT)
_INSTANT = pl.Datetime("us", "UTC")
# Date, clock, seconds, fraction, offset. A comma before the fraction is ISO 8601 too.
_ISO_8601 = (
    r"(?i)\A(\d{4}-\d{2}-\d{2})"
    r"(?:[T ](\d{2}:\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?[ ]?(Z|[+-]\d{2}(?::?\d{2})?)?)?\z"
)
_LARGEST_OFFSET_MIN = 18 * 60  # as ISO 8601's own implementations have it


def to_instant(
    column: pl.Series, unit: str | None, time_format: str | None, timezone: str
) -> Converted:
    """Instants in µs, UTC, from timestamps, numbers of `unit` since 1970, or texts.

    Times without a zone are in `timezone`; one that its clocks skip, or show twice, is a fault:
    an hour a year that cannot be placed. Anything before 1970 becomes 1970 and anything after
    2100 the latter, which the event schema refuses. Finer than µs is cut off (numbers: rounded).
    """
    faults: tuple[Fault, ...] = ()
    if is_instant(column.dtype):
        instants, present = bounded(column), column.is_not_null()
        expected = f"a time that the clocks of {timezone} show once"
        if getattr(column.dtype, "time_zone", None) is None:
            instants = _zoned(instants.cast(pl.Datetime("us")), timezone)
    elif unit is not None:
        number, faults = to_number(column)
        instants = (number.clip(0, _LATEST_US / _US_PER[unit]) * _US_PER[unit]).round(0)
        return Converted(instants.cast(pl.Int64).cast(_INSTANT), faults)
    else:
        text, faults = to_text(column)
        present = text.is_not_null()
        if time_format is None:
            instants, expected = _from_iso(text, timezone), "an instant in ISO 8601"
        else:
            instants, expected = (
                _from_format(text, time_format, timezone),
                f"a time written as {time_format}",
            )
    instants = instants.cast(_INSTANT)
    return Converted(instants, faults + fault(present & instants.is_null(), expected))


def _zoned(naive: pl.Series, timezone: str) -> pl.Series:
    if timezone == "UTC":
        return naive.dt.replace_time_zone("UTC")
    local = bounded(naive).dt.replace_time_zone(timezone, ambiguous="null", non_existent="null")
    return local.dt.convert_time_zone("UTC")


def _from_format(text: pl.Series, time_format: str, timezone: str) -> pl.Series:
    read = text.str.to_datetime(time_format, strict=False, time_unit="us")
    if getattr(read.dtype, "time_zone", None) is None:
        return _zoned(read, timezone)
    return read.dt.convert_time_zone("UTC")


def _from_iso(text: pl.Series, timezone: str) -> pl.Series:
    parts = text.str.extract_groups(_ISO_8601).struct.unnest()
    day, clock, second, fraction, offset = (parts[name] for name in parts.columns)
    written = day + " " + clock.fill_null("00:00") + ":" + second.fill_null("00")
    wall = written.str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False, time_unit="us")
    if fraction.null_count() < len(fraction):
        us = fraction.fill_null("").str.pad_end(6, "0").str.slice(0, 6).cast(pl.Int64)
        wall = wall + us.cast(pl.Duration("us"))
    if offset.null_count() == len(offset):
        return _zoned(wall, timezone)
    shift = _offset_minutes(offset) * 60_000_000
    aware = (wall - shift.cast(pl.Duration("us"))).dt.replace_time_zone("UTC")
    if not offset.null_count():
        return aware
    bare = _zoned(wall, timezone)
    return pl.select(pl.when(offset.is_null()).then(bare).otherwise(aware)).to_series()


def _offset_minutes(offset: pl.Series) -> pl.Series:
    """Minutes of Z, +01, +0100, -01:00; null where there is none such."""
    digits = offset.str.replace("(?i)z", "+0000").str.replace(":", "").str.pad_end(5, "0")
    hours, minutes = digits.str.slice(1, 2).cast(pl.Int64), digits.str.slice(3, 2).cast(pl.Int64)
    total = hours * 60 + minutes
    possible = (minutes < 60) & (total <= _LARGEST_OFFSET_MIN)
    signed = pl.when(digits.str.starts_with("-")).then(-total).otherwise(total)
    return pl.select(pl.when(possible).then(signed)).to_series()
