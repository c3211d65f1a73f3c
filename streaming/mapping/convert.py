"""From a source column to texts, numbers and money, a whole column at a time.

Each function takes n values and returns n converted ones with the faults found. A missing value
(null, an empty text, NaN in a column of floats) stays missing and is no fault; nothing is trimmed,
guessed or rounded away.
"""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from feature_repo.contracts.events import CURRENCY_PATTERN, MAX_AMOUNT_MINOR
from feature_repo.contracts.money import minor_unit_exponent
from streaming.mapping.temporal import instant_text, is_instant

_WHOLE_FLOATS = 2.0**53
# How far from a decimal a double still stands for it: a few roundings, of far less than a cent.
_NOISE = 2.0**-50
_MINOR_UNIT_SHARE = 1e-6


class Fault(NamedTuple):
    """Rows that do not convert (n flags), and what was expected of them."""

    rows: pl.Series
    expected: str


class Converted(NamedTuple):
    """n values, null where missing or faulty, and the faults."""

    values: pl.Series
    faults: tuple[Fault, ...] = ()


def fault(rows: pl.Series, expected: str) -> tuple[Fault, ...]:
    """One fault, or none where no row is flagged (a null is no flag)."""
    return (Fault(rows.fill_null(False), expected),) if rows.any() else ()


def to_text(column: pl.Series) -> Converted:
    """Texts; numbers as they are written, whole floats without `.0` (ids that once met a null).

    >>> to_text(pl.Series([7.0, 0.5, None])).values.to_list()
    ['7', '0.5', None]
    """
    faults: tuple[Fault, ...] = ()
    if column.dtype == pl.Binary:
        try:
            text = column.cast(pl.String)
        except pl.exceptions.ComputeError:
            text = pl.Series([_decoded(value) for value in column], dtype=pl.String)
            faults = fault(text.is_null() & column.is_not_null(), "text in UTF-8")
    elif is_instant(column.dtype):
        text = instant_text(column)
    elif column.dtype.is_float():
        floats = column.fill_nan(None)
        whole = (floats == floats.floor()) & (floats.abs() < _WHOLE_FLOATS)
        text = pl.select(
            pl.when(whole)
            .then(floats.cast(pl.Int64, strict=False).cast(pl.String))
            .otherwise(floats.cast(pl.String))
        ).to_series()
    else:
        text = column.cast(pl.String)
    if (text == "").any():
        text = pl.select(pl.when(text != "").then(text)).to_series()
    return Converted(text, faults)


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def to_number(column: pl.Series) -> Converted:
    """Finite floats, exact for integers below 2^53 and correctly rounded from text."""
    if column.dtype.is_numeric():
        values = column.cast(pl.Float64).fill_nan(None)
        present = values.is_not_null()
        faults: tuple[Fault, ...] = ()
    else:
        text, faults = to_text(column)
        present = text.is_not_null()
        values = text.cast(pl.Float64, strict=False).fill_nan(None)
    if values.is_infinite().any():
        values = pl.select(pl.when(values.is_finite()).then(values)).to_series()
    return Converted(values, faults + fault(present & values.is_null(), "a number"))


def to_minor(column: pl.Series, unit: str, currency: pl.Series) -> Converted:
    """Integer minor units, exactly: a float counts as the decimal number it is nearest to.

    A double that a few roundings lie between counts as that number too; a text does not.
    `currency` (n codes) says how many minor units a major one has; where it is missing or no
    code, the currency's own rule speaks, not this function. Amounts out of range stay out of it.

    >>> to_minor(pl.Series(["19.99", "3"]), "major", pl.Series(["GBP", "JPY"])).values.to_list()
    [1999, 3]
    """
    amount, faults = to_number(column)
    if unit == "minor":
        minor = amount
        inexact = amount != amount.floor()
        expected = "a whole number of minor units"
    else:
        scale = _minor_per_major(currency)
        minor = (amount * scale).round(0)
        # A decimal has only so many places exactly when its double is the one nearest to the
        # whole minor units divided by the scale: no tolerance is needed.
        back = minor / scale
        if column.dtype == pl.Float32:
            back = back.cast(pl.Float32).cast(pl.Float64)
        inexact = back != amount
        if column.dtype == pl.Float64:
            inexact &= ~_noise(amount, back, scale)
        inexact &= currency.str.contains(CURRENCY_PATTERN.pattern)
        expected = "no more decimals than the currency has"
    inexact = inexact & (minor.abs() <= MAX_AMOUNT_MINOR)
    # Clipped values are still out of range, and fit 64 bits; a rounded -0.001 is still below 0.
    minor = pl.select(
        pl.when(amount < 0)
        .then(-1)
        .otherwise(minor.floor().clip(upper_bound=MAX_AMOUNT_MINOR + 1))
        .cast(pl.Int64)
    ).to_series()
    return Converted(minor, faults + fault(inexact, expected))


def _noise(amount: pl.Series, back: pl.Series, scale: pl.Series) -> pl.Series:
    """Binary amounts that arithmetic left beside their decimal: 17.13 * 5 is 85.64999999999999."""
    apart = (amount - back).abs()
    return (apart <= back.abs() * _NOISE) & (apart * scale < _MINOR_UNIT_SHARE)


def _minor_per_major(currency: pl.Series) -> pl.Series:
    codes = currency.unique().drop_nulls().to_list()
    if len(codes) == 1 and not currency.null_count():
        return pl.repeat(10.0 ** minor_unit_exponent(codes[0]), len(currency), eager=True)
    return currency.replace_strict(
        {code: 10.0 ** minor_unit_exponent(code) for code in codes},
        default=100.0,
        return_dtype=pl.Float64,
    )
