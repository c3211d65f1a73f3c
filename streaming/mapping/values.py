"""Values that stand in a mapping file itself must be ones that events may have.

Found here, when the file is read, they cost one error; found later, a dead letter a row.
"""

from __future__ import annotations

import math
import re
import zoneinfo
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import polars as pl

from feature_repo.contracts.errors import MappingError
from feature_repo.contracts.events import COUNTRY_PATTERN, CURRENCY_PATTERN, EVENT_TYPES
from streaming.mapping.suggestions import did_you_mean, listed

_PATTERNS = {
    "send_country": (COUNTRY_PATTERN, "an ISO 3166 two-letter code"),
    "receive_country": (COUNTRY_PATTERN, "an ISO 3166 two-letter code"),
    "ip_country": (COUNTRY_PATTERN, "an ISO 3166 two-letter code"),
    "currency": (CURRENCY_PATTERN, "an ISO 4217 code"),
}
_NUMBERS = frozenset({"amount_minor", "fee_minor", "label_value"})
_UNIT_NAMES = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_PROBE = datetime(2021, 2, 3, 4, 5, 6, tzinfo=UTC)


def check_texts(
    place: str,
    target: str,
    *,
    required: bool,
    constant: str | None,
    default: str | None,
    translate: Mapping[str, str],
) -> None:
    """Hold a field's constant, default and translations to the event schema.

    Raises:
        MappingError: one of them can never be that field's value.
    """
    if constant is not None:
        _check_text(f"{place}.constant", target, constant)
    if default is not None and (default or required):
        _check_text(f"{place}.default", target, default)
    for value, text in translate.items():
        if text or required:
            _check_text(f"{place}.translate.{value}", target, text)


def _check_text(place: str, target: str, text: str) -> None:
    if not text:
        raise MappingError(place, text, "a non-empty text", "give it a value")
    if target == "event_type" and text not in EVENT_TYPES:
        raise MappingError(
            place,
            text,
            f"one of {listed(EVENT_TYPES)}",
            f"name one of them{did_you_mean(text, EVENT_TYPES)}",
        )
    pattern, expected = _PATTERNS.get(target, (None, ""))
    if pattern is not None and not pattern.fullmatch(text):
        raise MappingError(place, text, expected, "write the code")
    if target in _NUMBERS:
        try:
            finite = math.isfinite(float(text))
        except ValueError:
            finite = False
        if not finite:
            raise MappingError(place, text, "a number", "write one")


def check_duration(place: str, text: str) -> timedelta:
    """Read a duration such as 6d, 12h, 30m or 0s.

    >>> check_duration("label.after", "6d")
    datetime.timedelta(days=6)

    Raises:
        MappingError: it is none, or longer than a century.
    """
    found = re.fullmatch(r"(\d{1,6})([smhd])", text, re.ASCII)
    if found is not None:
        duration = timedelta(**{_UNIT_NAMES[found[2]]: int(found[1])})
        if duration <= timedelta(days=36_500):
            return duration
    raise MappingError(place, text, "a whole number of s, m, h or d, such as 6d", "write one")


def check_timezone(place: str, timezone: str) -> None:
    """Check the name of a time zone.

    Raises:
        MappingError: there is no such zone; names close ones.
    """
    try:
        zoneinfo.ZoneInfo(timezone)
        pl.Series([_PROBE.replace(tzinfo=None)]).dt.replace_time_zone(timezone)
    except (
        zoneinfo.ZoneInfoNotFoundError,
        ValueError,
        OSError,
        pl.exceptions.PolarsError,
    ) as error:
        raise MappingError(
            place,
            timezone,
            "a time zone such as UTC or Europe/London",
            f"name one{did_you_mean(timezone, zoneinfo.available_timezones())}",
        ) from error


def check_format(place: str, time_format: str) -> str:
    """Check a strftime format, and return it as the time parser wants it.

    Python's `.%f` (fraction of a second) would be read as nanoseconds there: it becomes `%.f`.

    >>> check_format("fields.event_time.format", "%d/%m/%Y %H:%M:%S.%f")
    '%d/%m/%Y %H:%M:%S%.f'

    Raises:
        MappingError: a time written in that format does not read back.
    """
    time_format = time_format.replace(".%f", "%.f")
    probe = pl.Series([_PROBE])
    try:
        if re.search(r"%f", time_format):
            raise ValueError("%f without a point before it")
        read = probe.dt.strftime(time_format).str.to_datetime(time_format, time_unit="us")
        day = read.dt.date()[0]
    except (ValueError, pl.exceptions.PolarsError) as error:
        day = None
        problem: Exception | None = error
    else:
        problem = None
    if day != _PROBE.date():
        raise MappingError(
            place,
            time_format,
            "strftime codes for year, month and day, hour with minute, as %d/%m/%Y %H:%M",
            "mend the format, or leave it out for ISO 8601",
        ) from problem
    return time_format
