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
        InputError: the file is missing, lacks a column, or has a rate that is not above zero.
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
        bad = table.filter(~(pl.col("usd_per_unit") > 0) | pl.any_horizontal(pl.all().is_null()))
        if bad.height:
            raise InputError(
                "exchange rates", bad.row(0), "a date, a currency and a rate > 0", f"mend {path}"
            )
        self._dates: dict[str, npt.NDArray[np.int64]] = {}
        self._rates: dict[str, npt.NDArray[np.float64]] = {}
        for (currency,), rows in table.sort("date").group_by("currency"):
            exponent = 2 - minor_unit_exponent(str(currency))
            self._dates[str(currency)] = rows["date"].cast(pl.Int32).cast(pl.Int64).to_numpy()
            self._rates[str(currency)] = rows["usd_per_unit"].to_numpy() * 10.0**exponent

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

        Rows whose currency has no rate keep nulls: validation has made them dead letters.
        """
        if batch.column("currency").null_count == len(batch):
            return batch
        times = batch.column("event_time").cast(pa.int64()).to_numpy(zero_copy_only=False)
        factors = self.factors(batch.column("currency"), times)
        for source in ("amount", "fee"):
            minor = batch.column(f"{source}_minor")
            absent = np.asarray(minor.is_null()) | np.isnan(factors)
            value = np.rint(minor.fill_null(0).to_numpy() * np.nan_to_num(factors))
            target = f"{source}_ref_minor"
            batch = batch.set_column(
                batch.schema.get_field_index(target),
                target,
                pa.array(value.astype(np.int64), mask=absent),
            )
        return batch
