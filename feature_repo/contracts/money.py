"""Money: integer minor units, and a dated exchange-rate file into one reference currency.

Features only ever add up amounts in minor units of the reference currency, so sums are exact in
any order; the conversion happens once, at ingestion, with the rate of the event's own day.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from feature_repo.contracts.errors import InputError

REFERENCE_CURRENCY = "USD"
# Beyond this, whole minor units are no longer exact in a float's 53 bits; no event is worth more.
MAX_REFERENCE_MINOR = 2**53

# ISO 4217 exponents that are not 2.
_EXPONENTS = {
    "BHD": 3, "IQD": 3, "JOD": 3, "KWD": 3, "LYD": 3, "OMR": 3, "TND": 3,
    "BIF": 0, "CLP": 0, "DJF": 0, "GNF": 0, "ISK": 0, "JPY": 0, "KMF": 0, "KRW": 0, "PYG": 0,
    "RWF": 0, "UGX": 0, "VND": 0, "VUV": 0, "XAF": 0, "XOF": 0, "XPF": 0,
}  # fmt: skip
DEFAULT_RATES = Path(__file__).with_name("exchange_rates.csv")
_US_PER_DAY = 86_400_000_000


def minor_unit_exponent(currency: str) -> int:
    """Decimal places between a currency's major and minor unit (ISO 4217).

    >>> minor_unit_exponent("GBP"), minor_unit_exponent("UGX"), minor_unit_exponent("KWD")
    (2, 0, 3)
    """
    return _EXPONENTS.get(currency, 2)


class ExchangeRates:
    """Dated rates into the reference currency, from a CSV file `date,currency,usd_per_unit`.

    A rate holds from its date until the currency's next date; before a currency's first date
    there is none. Conversion rounds half to even, to whole minor units.

    Raises:
        InputError: the file is missing, lacks a column, or has a rate that is not above zero and
            finite, or two rates of a currency for one date.
    """

    def __init__(self, path: Path = DEFAULT_RATES) -> None:
        if not path.is_file():
            raise InputError(
                "exchange rates", str(path), "a CSV file date,currency,usd_per_unit", "create it"
            )
        try:
            table = pl.read_csv(
                path,
                comment_prefix="#",
                schema_overrides={
                    "date": pl.Date, "currency": pl.String, "usd_per_unit": pl.Float64,
                },
            ).select("date", "currency", "usd_per_unit")  # fmt: skip
        except pl.exceptions.PolarsError as error:
            raise InputError(
                "exchange rates", str(path), "the columns date,currency,usd_per_unit", str(error)
            ) from error
        scale = pl.col("currency").map_elements(_cents_per_minor, return_dtype=pl.Float64)
        table = table.with_columns(factor=pl.col("usd_per_unit") * scale)
        sound = (pl.col("factor") > 0) & pl.col("factor").is_finite()
        bad = table.filter(~sound | pl.any_horizontal(pl.all().is_null()))
        if bad.height:
            raise InputError(
                "exchange rates",
                ",".join(map(str, bad.row(0)[:3])),
                "a date, a currency and a rate > 0 and finite",
                f"mend {path}",
            )
        twice = table.filter(pl.struct("date", "currency").is_duplicated())
        if twice.height:
            date, currency, *_ = twice.row(0)
            raise InputError(
                "exchange rates",
                f"{date},{currency}",
                "one rate of a currency for a date",
                f"leave one of them in {path}",
            )
        self._dates: dict[str, npt.NDArray[np.int64]] = {}
        self._rates: dict[str, npt.NDArray[np.float64]] = {}
        for (currency,), rows in table.sort("date").group_by("currency"):
            self._dates[str(currency)] = rows["date"].cast(pl.Int32).cast(pl.Int64).to_numpy()
            self._rates[str(currency)] = rows["factor"].to_numpy()

    def factors(
        self, currency: pa.Array, event_time_us: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Reference minor units for one minor unit of each row's currency on the row's day.

        Shapes: n currencies (nulls allowed) and n instants in µs since 1970 -> n factors; NaN
        where the currency is null or has no rate on that day.
        """
        factors = np.full(len(currency), np.nan)
        encoded = currency.dictionary_encode()
        codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        days = event_time_us // _US_PER_DAY
        for code, name in enumerate(encoded.dictionary.to_pylist()):
            if name not in self._dates:
                continue
            rows = np.flatnonzero(codes == code)
            at = np.searchsorted(self._dates[name], days[rows], side="right") - 1
            known = at >= 0
            factors[rows[known]] = self._rates[name][at[known]]
        return factors

    def with_reference_amounts(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Fill `amount_ref_minor` and `fee_ref_minor` of a batch of `EVENT_SCHEMA`.

        Rows whose currency has no rate, or that are worth more than `MAX_REFERENCE_MINOR`, keep
        nulls: validation makes them dead letters.
        """
        if batch.column("currency").null_count == len(batch):
            return batch
        times = batch.column("event_time").cast(pa.int64()).to_numpy(zero_copy_only=False)
        factors = self.factors(batch.column("currency"), times)
        for source in ("amount", "fee"):
            minor = batch.column(f"{source}_minor")
            worth = reference_minor(minor.fill_null(0).to_numpy(), factors)
            absent = np.asarray(minor.is_null()) | np.isnan(worth)
            target = f"{source}_ref_minor"
            batch = batch.set_column(
                batch.schema.get_field_index(target),
                target,
                pa.array(np.nan_to_num(worth).astype(np.int64), mask=absent),
            )
        return batch


def reference_minor(
    minor: npt.NDArray[np.int64], factors: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """What n amounts are worth in whole reference minor units, by `ExchangeRates.factors`.

    NaN where there is no rate, or where the amount does not fit (see `MAX_REFERENCE_MINOR`).

    >>> reference_minor(np.array([250, 10**15]), np.array([1.25, 100.0])).tolist()
    [312.0, nan]
    """
    with np.errstate(over="ignore"):  # the infinity it gives is too large as well
        worth = np.rint(minor * factors)
    return np.where(np.abs(worth) <= MAX_REFERENCE_MINOR, worth, np.nan)


def _cents_per_minor(currency: str) -> float:
    """Reference minor units for a minor unit of a currency at par."""
    return float(10.0 ** (2 - minor_unit_exponent(currency)))
