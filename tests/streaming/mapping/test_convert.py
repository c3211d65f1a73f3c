from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.contracts.events import MAX_AMOUNT_MINOR
from streaming.mapping.convert import Converted, to_minor, to_number, to_text
from streaming.mapping.temporal import bounded, instant_text

EXPONENTS = {"GBP": 2, "JPY": 0, "KWD": 3}


def faulty(result: Converted) -> list[int]:
    """Rows with any fault."""
    return sorted({row for item in result.faults for row in item.rows.arg_true()})


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        (pl.Series(["a", "", None, " b"]), ["a", None, None, " b"]),
        (pl.Series([1, None, -3]), ["1", None, "-3"]),
        (pl.Series([2**63 + 5], dtype=pl.UInt64), [str(2**63 + 5)]),
        (pl.Series([7.0, 0.25, float("nan"), 1e300]), ["7", "0.25", None, "1e+300"]),
        (pl.Series([True, False, None]), ["true", "false", None]),
        (pl.Series([Decimal("1.20")]), ["1.20"]),
        (pl.Series([date(2024, 5, 1)]), ["2024-05-01"]),
        (pl.Series(["x"], dtype=pl.Categorical), ["x"]),
        (pl.Series([None, None]), [None, None]),
        (pl.Series([b"caf\xc3\xa9", None]), ["café", None]),
        (pl.Series([], dtype=pl.Int64), []),
    ],
)
def test_text(column: pl.Series, texts: list[str | None]) -> None:
    result = to_text(column)
    assert result.values.to_list() == texts
    assert not result.faults


def test_text_that_is_not_utf8_is_a_fault() -> None:
    result = to_text(pl.Series([b"a", b"\xff", None]))
    assert result.values.to_list() == ["a", None, None]
    assert faulty(result) == [1]


def test_timestamps_beyond_the_calendar_are_shown_as_numbers() -> None:
    for unit in ("ms", "us"):
        column = pl.Series([0, 2**63 - 1, -(2**63), None]).cast(pl.Datetime(unit))
        text = instant_text(column).to_list()
        assert str(text[0]).startswith("1970-01-01 00:00:00")
        assert text[1:] == [str(2**63 - 1), str(-(2**63)), None]
        assert bounded(column).dt.year().to_list()[0] == 1970
    days = pl.Series([2**31 - 1, 19844], dtype=pl.Int32).cast(pl.Date)
    assert instant_text(days).to_list() == [str(2**31 - 1), "2024-05-01"]
    nanos = pl.Series([2**63 - 1], dtype=pl.Int64).cast(pl.Datetime("ns"))
    assert str(instant_text(nanos)[0]).startswith("2262-04-11")


@pytest.mark.parametrize(
    ("column", "numbers", "bad"),
    [
        (pl.Series(["1", "-2.5", "1e3", "", None]), [1.0, -2.5, 1000.0, None, None], []),
        (pl.Series(["x", "1,5", " 1", "inf", "nan"]), [None] * 5, [0, 1, 2, 3, 4]),
        (pl.Series([1.5, float("nan"), float("inf")]), [1.5, None, None], [2]),
        (pl.Series([b"\xff", b"3"]), [None, 3.0], [0]),
        (pl.Series([True]), [None], [0]),
        (pl.Series([Decimal("1.25")]), [1.25], []),
    ],
)
def test_number(column: pl.Series, numbers: list[float | None], bad: list[int]) -> None:
    result = to_number(column)
    assert result.values.to_list() == numbers
    assert faulty(result) == bad


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.sampled_from(list(EXPONENTS)), st.integers(0, MAX_AMOUNT_MINOR)), min_size=1
    ),
    st.booleans(),
)
def test_major_units_are_exact(amounts: list[tuple[str, int]], as_text: bool) -> None:
    """Whatever the currency and size: as texts and as the floats nearest to them."""
    majors = [Decimal(minor).scaleb(-EXPONENTS[code]) for code, minor in amounts]
    values = [f"{major:f}" for major in majors] if as_text else [float(major) for major in majors]
    result = to_minor(pl.Series(values), "major", pl.Series([code for code, _ in amounts]))
    assert result.values.to_list() == [minor for _, minor in amounts]
    assert not result.faults


@pytest.mark.parametrize("value", ["12.345", "0.001", "-0.001", "12.3400001"])
def test_decimals_that_the_currency_lacks_are_a_fault_not_rounded(value: str) -> None:
    for column in (pl.Series([value, "1"]), pl.Series([float(value), 1.0])):
        result = to_minor(column, "major", pl.Series(["GBP", "GBP"]))
        assert faulty(result) == [0]
        assert result.faults[0].expected == "no more decimals than the currency has"


def test_doubles_that_arithmetic_left_beside_a_decimal_are_that_decimal() -> None:
    noisy = [17.13 * 5, 17.54 * 5, 10.46 * 5, 65.21 * 5]
    assert [repr(value) for value in noisy[:2]] == ["85.64999999999999", "87.69999999999999"]
    currency = pl.Series(["USD"] * 4)
    result = to_minor(pl.Series(noisy), "major", currency)
    assert (result.values.to_list(), result.faults) == ([8565, 8770, 5230, 32605], ())
    assert faulty(to_minor(pl.Series(list(map(repr, noisy))), "major", currency)) == [0, 1, 2, 3]
    # Where a double's own steps are worth something, only the nearest one will do.
    large = pl.Series([1e12 + 0.01, 1e12 + 0.0101, 1e12, 1e12])
    assert faulty(to_minor(large, "major", currency)) == [1]


def test_single_precision_counts_as_the_decimal_it_is_nearest_to() -> None:
    column = pl.Series([12.34, 0.1], dtype=pl.Float32)
    result = to_minor(column, "major", pl.Series(["GBP", "GBP"]))
    assert (result.values.to_list(), result.faults) == ([1234, 10], ())


def test_amounts_out_of_range_stay_out_of_range_without_overflow() -> None:
    values = pl.Series(["-0.01", "-1e300", "1e300", "10000000000000.01"])
    minor = to_minor(values, "major", pl.Series(["GBP"] * 4)).values.to_list()
    assert [value < 0 or value > MAX_AMOUNT_MINOR for value in minor] == [True] * 4
    huge = pl.Series([2**64 - 1], dtype=pl.UInt64)
    assert to_minor(huge, "minor", pl.Series(["GBP"])).values[0] > MAX_AMOUNT_MINOR


def test_minor_units_are_whole() -> None:
    currency = pl.Series(["GBP"] * 4)
    result = to_minor(pl.Series([100.0, 0.5, None, float("nan")]), "minor", currency)
    assert result.values.to_list() == [100, 0, None, None]
    assert faulty(result) == [1]
    assert result.faults[0].expected == "a whole number of minor units"


def test_an_amount_without_currency_is_left_to_the_currency_rule() -> None:
    result = to_minor(pl.Series(["1.234"] * 2), "major", pl.Series([None, "£"], dtype=pl.String))
    assert not result.faults
    assert not result.values.null_count()


def test_an_instant_in_an_id_reads_like_one() -> None:
    column = pl.Series([datetime(2024, 5, 1, 10, tzinfo=UTC)])
    assert to_text(column).values.to_list() == ["2024-05-01 10:00:00.000000+00:00"]
