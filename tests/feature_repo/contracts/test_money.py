from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from feature_repo.contracts.errors import InputError
from feature_repo.contracts.events import Event, EventType, events_to_batch, to_epoch_us
from feature_repo.contracts.money import DEFAULT_RATES, ExchangeRates


def rates(tmp_path: Path, text: str) -> ExchangeRates:
    path = tmp_path / "rates.csv"
    path.write_text("date,currency,usd_per_unit\n" + text)
    return ExchangeRates(path)


def us(day: date, hour: int = 0) -> int:
    return to_epoch_us(datetime(day.year, day.month, day.day, hour, tzinfo=UTC))


def test_a_rate_holds_from_its_day_until_the_next(tmp_path: Path) -> None:
    table = rates(tmp_path, "2026-01-01,GBP,1.25\n2026-02-01,GBP,1.5\n2026-01-01,UGX,0.0003\n")
    days = [date(2025, 12, 31), date(2026, 1, 1), date(2026, 1, 31), date(2026, 2, 1)]
    instants = np.array([us(day, 23) for day in days])
    assert table.factors(pa.array(["GBP"] * 4), instants).tolist() == pytest.approx(
        [np.nan, 1.25, 1.25, 1.5], nan_ok=True
    )
    # One Ugandan shilling is its own minor unit: 0.0003 dollars are 0.03 cents.
    assert table.factors(pa.array(["UGX", None, "XXX"]), instants[1:]).tolist() == pytest.approx(
        [0.03, np.nan, np.nan], nan_ok=True
    )


def test_reference_amounts_are_whole_cents(tmp_path: Path) -> None:
    def event(amount: int | None, currency: str | None) -> Event:
        return Event(
            event_id="e",
            event_time=datetime(2026, 1, 5, tzinfo=UTC),
            customer_id="c",
            event_type=EventType.QUOTE,
            amount_minor=amount,
            fee_minor=amount and 1,
            currency=currency,
        )

    table = rates(tmp_path, "2026-01-01,GBP,1.255\n2026-01-01,KWD,3.26\n")
    batch = events_to_batch(
        [event(1000, "GBP"), event(1000, "KWD"), event(None, None), event(5, "XXX")]
    )
    filled = table.with_reference_amounts(batch)
    assert filled.schema.equals(batch.schema)
    # 10.00 pounds are 12.55 dollars; 1.000 dinar is 3.26 dollars.
    assert filled.column("amount_ref_minor").to_pylist() == [1255, 326, None, None]
    assert filled.column("fee_ref_minor").to_pylist() == [1, 0, None, None]


@pytest.mark.parametrize("rate", ["1e3", "1e200"])
def test_an_amount_whose_worth_does_not_fit_has_none(tmp_path: Path, rate: str) -> None:
    def event(amount: int, currency: str) -> Event:
        return Event(
            event_id="e",
            event_time=datetime(2026, 1, 5, tzinfo=UTC),
            customer_id="c",
            event_type=EventType.QUOTE,
            amount_minor=amount,
            fee_minor=0,
            currency=currency,
        )

    table = rates(tmp_path, f"2026-01-01,XBT,{rate}\n2026-01-01,XAU,2\n")
    batch = events_to_batch(
        [event(10**15, "XBT"), event(2**52, "XAU"), event(2**52 + 1, "XAU"), event(0, "XBT")]
    )
    filled = table.with_reference_amounts(batch)
    assert filled.column("amount_ref_minor").to_pylist() == [None, 2**53, None, 0]
    assert filled.column("fee_ref_minor").to_pylist() == [0, 0, 0, 0]


def test_the_shipped_file_has_the_reference_currency_at_one() -> None:
    factor = ExchangeRates(DEFAULT_RATES).factors(
        pa.array(["USD"]), np.array([us(date(2017, 10, 1))])
    )
    assert factor.tolist() == [1.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2026-01-01,GBP,-1\n", "rate > 0"),
        ("2026-01-01,GBP,\n", "rate > 0"),
        ("2026-01-01,EUR,1\n2026-01-02,GBP,NaN\n", r"2026-01-02,GBP,nan.*finite"),
        ("2026-01-01,GBP,inf\n", r"2026-01-01,GBP,inf.*finite"),
        ("2026-01-01,GBP,-inf\n", "2026-01-01,GBP,-inf"),
        ("2026-01-01,JPY,1e307\n", "2026-01-01,JPY,1e.307"),  # not finite by the cent
        ("2026-01-01,KWD,5e-324\n", "2026-01-01,KWD,5e-324"),  # nothing by the cent
        (
            "2026-01-01,GBP,1.2\n2026-02-01,GBP,1.2\n2026-01-01,EUR,1\n2026-01-01,GBP,1.3\n",
            "2026-01-01,GBP.*one rate of a currency for a date",
        ),
        ("yesterday,GBP,1.2\n", "date,currency,usd_per_unit"),
    ],
)
def test_a_bad_rate_is_shown(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        rates(tmp_path, text)


def test_a_missing_file_and_a_missing_column_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.csv"):
        ExchangeRates(tmp_path / "absent.csv")
    other = tmp_path / "other.csv"
    other.write_text("day,rate\n2026-01-01,2\n")
    with pytest.raises(InputError, match="usd_per_unit"):
        ExchangeRates(other)
