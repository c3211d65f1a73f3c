"""How long sessions last, what they pay and how fast, by corridor; and who is brief, who is long.

Weibull distributions of session duration, total to pay and pay rate, segmented by corridor, after
DAIMA's (WorldRemit's technology blog). Censoring, shrinkage and the customers' segments are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.settings import Settings
from feature_repo.stores.view_rows import write_view_rows
from training.sessions import Observed
from training.survival.alternatives import (
    exponential_log_likelihood,
    fit_exponential,
    fit_lognormal,
    lognormal_log_likelihood,
)
from training.survival.goodness import kolmogorov_smirnov, probability_integral_transform
from training.survival.pictures import survival_picture
from training.survival.samples import Floats, Ints, Samples
from training.survival.shrinkage import shrink
from training.survival.weibull import Weibull, fit_weibull, log_likelihood

NAME = "segments"
BRIEF, USUAL, LONG = "brief", "usual", "long"


@dataclass(frozen=True)
class Config:
    """Values in `configs/segments.yaml`, with what they mean."""

    least_sessions: int
    prior_sessions: float
    brief_below: float
    long_above: float
    seed: int


@dataclass(frozen=True)
class Quantity:
    """A quantity's fits.

    Attributes:
        name: `duration_s`, `total_to_pay_ref_minor`, `pay_rate`.
        samples: its values by corridor.
        fitted: each corridor's distribution, small ones leaning on their parents.
        own_share: (corridors,) weight of their own sessions, 0 to 1.
        table: a row a corridor: estimates, 95 % intervals, distances, log-likelihoods a value.
    """

    name: str
    samples: Samples
    fitted: Weibull
    own_share: Floats
    table: pl.DataFrame


@dataclass(frozen=True)
class Segments:
    """What comes of a window.

    Attributes:
        corridors: their names; places in it are groups.
        quantities: by name.
        customers: customer_id, segment, duration_position (0 to 1), segment_sessions.
        left_out: sessions without a corridor, and of a single instant.
    """

    corridors: list[str]
    quantities: dict[str, Quantity]
    customers: pl.DataFrame
    left_out: dict[str, int]

    def corridor_rows(self) -> pl.DataFrame:
        """A row a corridor, as the feature view `corridor_durations` has it."""
        duration, total, rate = (
            self.quantities[name].table
            for name in ("duration_s", "total_to_pay_ref_minor", "pay_rate")
        )
        return duration.select(
            "corridor",
            pl.col("values").alias("duration_sessions"),
            pl.col("k").alias("duration_k"),
            pl.col("scale").alias("duration_scale_s"),
            pl.col("k_low").alias("duration_k_low"),
            pl.col("k_high").alias("duration_k_high"),
            pl.col("scale_low").alias("duration_scale_low_s"),
            pl.col("scale_high").alias("duration_scale_high_s"),
            pl.col("own_share").alias("duration_own_share"),
            total["k"].alias("total_to_pay_k"),
            total["scale"].alias("total_to_pay_scale_ref_minor"),
            rate["k"].alias("pay_rate_k"),
            rate["scale"].alias("pay_rate_scale"),
        )


def fit_segments(observed: Observed, config: Config) -> Segments:
    """Fit all corridors of a window and place every customer.

    Raises:
        DatasetError: no session has a corridor and a length.
    """
    frame = observed.frame
    known = frame.filter(pl.col("corridor").is_not_null())
    lasting = known.filter(pl.col("duration_s") > 0)
    if lasting.is_empty():
        raise DatasetError(
            "window",
            f"{observed.window_start} .. {observed.window_end}",
            "a session of a known corridor that lasts",
            f"widen it ({frame.height} sessions, {known.height} with a corridor)",
        )
    corridors = lasting["corridor"].unique().sort().to_list()
    whole = lasting.filter("ended").with_columns(
        rate=pl.col("total_ref_minor") / pl.col("duration_s")
    )
    paying = whole.filter(pl.col("total_ref_minor") > 0)
    quantities = {
        name: fit_quantity(name, rows, column, corridors, config)
        for name, rows, column in (
            ("duration_s", lasting, "duration_s"),
            # What is to be paid, and how fast, is known of sessions that are over.
            ("total_to_pay_ref_minor", paying, "total_ref_minor"),
            ("pay_rate", paying, "rate"),
        )
    }
    return Segments(
        corridors=corridors,
        quantities=quantities,
        customers=_customers(lasting, quantities["duration_s"], config),
        left_out={
            "without corridor": frame.height - known.height,
            "of a single instant": known.height - lasting.height,
        },
    )


def publish(settings: Settings, segments: Segments, at: datetime) -> dict[str, int]:
    """Write the views `corridor_durations` and `customer_segment`, as of the window's end.

    Returns:
        Rows by view.

    Raises:
        DatasetError: the views are not applied.
        StoreUnavailableError: the online store does not answer.
    """
    tables = {
        "corridor_durations": segments.corridor_rows(),
        "customer_segment": segments.customers,
    }
    for view, rows in tables.items():
        write_view_rows(settings, view, rows, at)
    return {view: rows.height for view, rows in tables.items()}


def survival_pictures(segments: Segments) -> dict[str, bytes]:
    """Survival and hazard of the busiest corridors, a picture a quantity that there is."""
    units = {"duration_s": "s", "total_to_pay_ref_minor": "USD cents", "pay_rate": "USD cents/s"}
    return {
        f"survival_{name}.png": survival_picture(
            found.samples, found.fitted, segments.corridors, units[name]
        )
        for name, found in segments.quantities.items()
        if len(found.samples.value)
    }


def fit_quantity(
    name: str, rows: pl.DataFrame, column: str, corridors: list[str], config: Config
) -> Quantity:
    """Own estimates, then those of small corridors drawn to their send country's, that to all.

    Args:
        rows: corridor, ended, and the column of values above 0; a row a session.
        corridors: names, sorted; `SEND-RECEIVE`.
    """
    if rows.is_empty():
        return _nothing(name, corridors)
    samples = Samples.of(
        rows[column].cast(pl.Float64).to_numpy(),
        rows["ended"].to_numpy(),
        _codes(rows["corridor"], corridors),
        len(corridors),
    )
    own = fit_weibull(samples)
    countries = [corridor.partition("-")[0] for corridor in corridors]
    names = sorted(set(countries))
    parent = np.array([names.index(country) for country in countries], dtype=np.int64)
    by_country = samples.grouped(parent, len(names))
    in_all = samples.grouped(np.zeros(len(corridors), np.int64), 1)
    least = config.least_sessions
    nobody = np.zeros(len(names), np.int64)
    parents = shrink(
        fit_weibull(by_country), by_country.ends, fit_weibull(in_all), nobody, least
    ).weibull
    leaning = shrink(own, samples.ends, parents, parent, least)
    fitted = leaning.weibull
    places = probability_integral_transform(samples, fitted, config.seed)
    distance, p_value = kolmogorov_smirnov(samples, places)
    k_low, k_high, scale_low, scale_high = fitted.interval()
    with np.errstate(invalid="ignore", divide="ignore"):
        likelihoods = {
            f"log_likelihood_{family}": found / samples.count
            for family, found in (
                ("weibull", log_likelihood(samples, own)),
                ("exponential", exponential_log_likelihood(samples, fit_exponential(samples))),
                ("lognormal", lognormal_log_likelihood(samples, fit_lognormal(samples))),
            )
        }
    table = pl.DataFrame(
        {
            "corridor": corridors,
            "values": samples.count.astype(np.int64),
            "censored": (samples.count - samples.ends).astype(np.int64),
            "k": fitted.k,
            "k_low": k_low,
            "k_high": k_high,
            "scale": fitted.scale,
            "scale_low": scale_low,
            "scale_high": scale_high,
            "own_share": leaning.own_share,
            "ks_distance": distance,
            "ks_p_value": p_value,
            **likelihoods,
        }
    ).fill_nan(None)
    return Quantity(name, samples, fitted, leaning.own_share, table)


def _nothing(name: str, corridors: list[str]) -> Quantity:
    """A quantity that no session has: its columns are null."""
    none = np.full(len(corridors), np.nan)
    samples = Samples(
        np.empty(0), np.empty(0, np.bool_), np.empty(0, np.int64), groups=len(corridors)
    )
    table = pl.DataFrame(
        {
            "corridor": corridors,
            "values": np.zeros(len(corridors), np.int64),
            "censored": np.zeros(len(corridors), np.int64),
            **dict.fromkeys(_ESTIMATES, none),
        }
    ).fill_nan(None)
    return Quantity(name, samples, Weibull(none, none, none, none, none), none, table)


_ESTIMATES = (
    "k", "k_low", "k_high", "scale", "scale_low", "scale_high", "own_share", "ks_distance",
    "ks_p_value", "log_likelihood_weibull", "log_likelihood_exponential",
    "log_likelihood_lognormal",
)  # fmt: skip


def _codes(values: pl.Series, names: list[str]) -> Ints:
    places = values.replace_strict(names, list(range(len(names))), return_dtype=pl.Int64)
    return places.to_numpy()


def _customers(rows: pl.DataFrame, duration: Quantity, config: Config) -> pl.DataFrame:
    """Where a customer's durations fall, on average, in their corridors' distributions."""
    place = 1.0 - duration.fitted.survival(duration.samples.value, duration.samples.group)
    # Of an open session it is known to fall beyond where it is: halfway to the end, on average.
    place = np.where(duration.samples.ended, place, (1.0 + place) / 2)
    prior = config.prior_sessions
    mean = (pl.col("place").sum() + prior / 2) / (pl.len() + prior)
    position = pl.col("duration_position")
    return (
        rows.select("customer_id", place=pl.Series(place))
        .group_by("customer_id")
        .agg(mean.alias("duration_position"), segment_sessions=pl.len().cast(pl.Int64))
        .select(
            "customer_id",
            pl.when(position < config.brief_below)
            .then(pl.lit(BRIEF))
            .when(position > config.long_above)
            .then(pl.lit(LONG))
            .otherwise(pl.lit(USUAL))
            .alias("segment"),
            "duration_position",
            "segment_sessions",
        )
        .sort("customer_id")
    )
