from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Literal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.contracts.events import EARLIEST_EVENT, LATEST_EVENT, to_epoch_us
from streaming.mapping.instants import to_instant

MAY = datetime(2024, 5, 1, 10, 20, 30, tzinfo=UTC)


def instants(
    values: pl.Series | list[str], unit: str | None = None, fmt: str | None = None, tz: str = "UTC"
) -> list[datetime | None]:
    """The values as instants; asserts that the faults are exactly what did not convert."""
    column = values if isinstance(values, pl.Series) else pl.Series(values)
    result = to_instant(column, unit, fmt, tz)
    assert result.values.dtype == pl.Datetime("us", "UTC")
    flagged = [any(item.rows[row] for item in result.faults) for row in range(len(column))]
    missing = [value in (None, "") or (str(value) == "nan" and unit == "s") for value in column]
    assert flagged == [
        value is None and not gone for value, gone in zip(result.values, missing, strict=True)
    ]
    return result.values.to_list()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-01T10:20:30Z", MAY),
        ("2024-05-01t10:20:30z", MAY),
        ("2024-05-01 10:20:30", MAY),
        ("2024-05-01 10:20:30 UTC", None),
        ("2024-05-01T12:20:30+02:00", MAY),
        ("2024-05-01T12:20:30 +0200", MAY),
        ("2024-05-01T12:20:30+02", MAY),
        ("2024-05-01T04:50:30-05:30", MAY),
        ("2024-05-01T10:20:30.5Z", MAY + timedelta(milliseconds=500)),
        ("2024-05-01T10:20:30,123456789Z", MAY + timedelta(microseconds=123456)),
        ("2024-05-01T10:20Z", MAY - timedelta(seconds=30)),
        ("2024-05-01", datetime(2024, 5, 1, tzinfo=UTC)),
        ("2024-02-30T10:20:30Z", None),
        ("2024-05-01T25:20:30Z", None),
        ("2024-05-01T10:20:30+99:00", None),
        ("2024-05-01T10:20:30+01:75", None),
        ("01/05/2024", None),
        ("2024-05-01T10:20:30Zx", None),
        ("1714558830", None),
        ("", None),
    ],
)
def test_iso_8601(text: str, expected: datetime | None) -> None:
    other = "2024-05-01T10:20:30"  # whatever stands beside it
    assert instants([text]) == [expected]
    assert instants([other, text, other]) == [MAY, expected, MAY]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.integers(0, 4_300_000_000_000_000),
    st.integers(-18 * 60, 18 * 60),
    st.sampled_from(["seconds", "milliseconds", "microseconds"]),
)
def test_iso_8601_reads_what_python_writes(us: int, offset: int, spec: str) -> None:
    zone = timezone(timedelta(minutes=offset))
    instant = (datetime(1975, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)).astimezone(zone)
    text = instant.isoformat(timespec=spec)
    assert instants([text]) == [datetime.fromisoformat(text)]


@pytest.mark.parametrize(
    ("column", "unit"),
    [
        (pl.Series([to_epoch_us(MAY), None]), "us"),
        (pl.Series([to_epoch_us(MAY) // 1000, None]), "ms"),
        (pl.Series([to_epoch_us(MAY) // 10**6, None], dtype=pl.UInt32), "s"),
        (pl.Series([to_epoch_us(MAY) / 10**6, float("nan")]), "s"),
        (pl.Series([str(to_epoch_us(MAY) // 1000), ""]), "ms"),
        (pl.Series([f"{to_epoch_us(MAY) // 10**6}.000", None]), "s"),
    ],
)
def test_numbers_since_1970(column: pl.Series, unit: str) -> None:
    assert instants(column, unit) == [MAY, None]


def test_fractions_of_seconds_are_exact_to_the_microsecond() -> None:
    times = [MAY + timedelta(microseconds=us) for us in (0, 1, 123_456, 999_999)]
    assert instants(pl.Series([f"{t.timestamp():.6f}" for t in times]), "s") == times
    assert instants(pl.Series([t.timestamp() for t in times]), "s") == times


@pytest.mark.parametrize("unit", ["us", "ms", "s"])
def test_numbers_out_of_range_stay_out_of_range(unit: str) -> None:
    column = pl.Series([-1, 0, 2**63 - 1, -(2**63)])
    for instant in instants(column, unit):
        assert instant is not None
        assert not EARLIEST_EVENT <= instant < LATEST_EVENT


def test_numbers_that_are_none() -> None:
    assert instants(["x", "nan", "inf", "2024-05-01"], "ms") == [None] * 4


@pytest.mark.parametrize(
    ("text", "fmt", "tz"),
    [
        ("01/05/2024 10:20:30", "%d/%m/%Y %H:%M:%S", "UTC"),
        ("01/05/2024 11:20:30", "%d/%m/%Y %H:%M:%S", "Europe/London"),
        ("2024-05-01 12:20:30 +0200", "%Y-%m-%d %H:%M:%S %z", "America/New_York"),
        ("20240501102030", "%Y%m%d%H%M%S", "UTC"),
    ],
)
def test_formats(text: str, fmt: str, tz: str) -> None:
    assert instants([text, "x", ""], fmt=fmt, tz=tz) == [MAY, None, None]


def test_a_number_can_be_a_written_date() -> None:
    expected = [datetime(2024, 5, 1, tzinfo=UTC)]
    assert instants(pl.Series([20240501]), fmt="%Y%m%d") == expected


def test_times_that_the_clocks_skip_or_show_twice_are_faults() -> None:
    texts = ["2024-03-31T01:30:00", "2024-10-27T01:30:00", "2024-10-27T02:30:00"]
    two = datetime(2024, 10, 27, 2, 30, tzinfo=UTC)
    assert instants(texts, tz="Europe/London") == [None, None, two]
    naive = pl.Series([datetime.fromisoformat(text) for text in texts])
    assert instants(naive, tz="Europe/London") == [None, None, two]


def test_an_offset_in_the_text_outweighs_the_zone() -> None:
    texts = ["2024-05-01T10:20:30Z", "2024-05-01T11:20:30"]
    assert instants(texts, tz="Europe/London") == [MAY, MAY]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_timestamps_of_any_precision(unit: Literal["ms", "us", "ns"]) -> None:
    naive = pl.Series([MAY.replace(tzinfo=None)]).cast(pl.Datetime(unit))
    assert instants(naive) == [MAY]
    assert instants(naive, tz="Europe/London") == [MAY - timedelta(hours=1)]
    aware = pl.Series([MAY]).cast(pl.Datetime(unit, "UTC"))
    assert instants(aware, tz="Europe/London") == [MAY]


@pytest.mark.parametrize("unit", ["ms", "us"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/London"])
def test_rubbish_timestamps_stay_out_of_range(unit: Literal["ms", "us"], zone: str) -> None:
    column = pl.Series([2**63 - 1, -(2**63) + 1, 10**17]).cast(pl.Datetime(unit))
    for stamps in (column, column.dt.replace_time_zone("UTC")):
        for instant in instants_of(stamps, zone):
            assert not EARLIEST_EVENT <= instant < LATEST_EVENT


def instants_of(column: pl.Series, zone: str) -> list[datetime]:
    result = to_instant(column, None, None, zone)
    assert not result.faults
    return result.values.to_list()


def test_dates_are_their_midnight() -> None:
    days = pl.Series([date(2024, 5, 1), None])
    assert instants(days) == [datetime(2024, 5, 1, tzinfo=UTC), None]
    assert instants(days, tz="Asia/Tokyo") == [datetime(2024, 4, 30, 15, tzinfo=UTC), None]


def test_what_is_no_time_at_all() -> None:
    assert instants(pl.Series([True, None])) == [None, None]
    assert instants(pl.Series([1.5])) == [None]
