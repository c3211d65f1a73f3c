"""Segments from the archive of sessions: corridors' distributions and customers' places."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.settings import Settings
from tests.training.sessions import CORRIDORS, START
from training.configuration import load_config
from training.segments import NAME, Config, fit_segments
from training.sessions import Observed, observed_sessions

CONFIG = load_config(Config, NAME)


def observed(seed: int = 1, *, corridors: int = 4, sessions: int = 8_000) -> Observed:
    """Sessions whose customers are quick or slow by a factor of their own."""
    rng = np.random.default_rng(seed)
    corridor = rng.integers(0, corridors, sessions)
    customer = rng.integers(0, 400, sessions)
    speed = np.exp(np.linspace(-1.2, 1.2, 400))[customer]
    duration = 60 * (1 + corridor) * speed * rng.weibull(0.9, sessions)
    cut = rng.exponential(3_000, sessions)
    names = np.array(["GB-NG", "GB-IN", "US-MX", "US-PH"])[:corridors]
    frame = pl.DataFrame(
        {
            "customer_id": [f"c{number}" for number in customer],
            "corridor": names[corridor],
            "duration_s": np.minimum(duration, cut),
            "ended": duration <= cut,
            "total_ref_minor": rng.integers(1_000, 90_000, sessions),
        }
    )
    return Observed(frame, START, START + timedelta(days=9), events=5 * sessions)


def test_customers_are_placed_by_where_their_durations_fall() -> None:
    customers = fit_segments(observed(), CONFIG).customers
    number = customers["customer_id"].str.slice(1).cast(pl.Int64).to_numpy()
    position = customers["duration_position"].to_numpy()
    assert np.corrcoef(number, position)[0, 1] > 0.9
    by_segment = customers.group_by("segment").agg(pl.col("duration_position").mean())
    means = dict(by_segment.iter_rows())
    assert means["brief"] < 0.4 < means["usual"] < 0.6 < means["long"]
    assert customers["segment_sessions"].sum() == 8_000


def test_corridors_have_a_row_each() -> None:
    segments = fit_segments(observed(), CONFIG)
    rows = segments.corridor_rows()
    assert rows["corridor"].to_list() == ["GB-IN", "GB-NG", "US-MX", "US-PH"]
    assert (rows["duration_k_low"] < rows["duration_k"]).all()
    assert (rows["duration_scale_s"] < rows["duration_scale_high_s"]).all()
    assert rows.null_count().transpose().sum().item() == 0
    table = segments.quantities["duration_s"].table
    assert table["censored"].sum() == (~observed().frame["ended"]).sum()
    assert (table["log_likelihood_weibull"] > table["log_likelihood_exponential"]).all()


def test_a_corridor_of_few_sessions_leans_on_its_country() -> None:
    many = observed()
    few = many.frame.filter(
        (pl.col("corridor") != "US-PH") | (pl.int_range(pl.len()).over("corridor") < 12)
    )
    rows = fit_segments(Observed(few, START, START, 1), CONFIG).corridor_rows()
    shares = dict(rows.select("corridor", "duration_own_share").iter_rows())
    assert shares["US-PH"] < 1.0
    assert shares["GB-NG"] == 1.0


def test_a_log_without_money_has_durations_all_the_same() -> None:
    bare = observed().frame.with_columns(total_ref_minor=pl.lit(None, pl.Int64))
    rows = fit_segments(Observed(bare, START, START, 1), CONFIG).corridor_rows()
    assert rows["pay_rate_k"].null_count() == rows.height
    assert rows["duration_k"].null_count() == 0


def test_no_corridor_is_an_error() -> None:
    frame = observed().frame.with_columns(corridor=pl.lit(None, pl.String))
    with pytest.raises(DatasetError, match="a session of a known corridor that lasts"):
        fit_segments(Observed(frame, START, START, 1), CONFIG)


def test_what_is_left_out_is_counted() -> None:
    frame = observed().frame
    changed = frame.with_columns(
        corridor=pl.when(pl.int_range(pl.len()) >= 10).then("corridor"),
        duration_s=pl.when(pl.int_range(pl.len()) >= 30).then("duration_s").otherwise(0.0),
    )
    left_out = fit_segments(Observed(changed, START, START, 1), CONFIG).left_out
    assert left_out == {"without corridor": 10, "of a single instant": 20}


def test_from_the_archive(remittance: Settings) -> None:
    found = observed_sessions(remittance, end=START + timedelta(days=4, minutes=30))
    assert not found.frame["ended"].all()
    segments = fit_segments(found, CONFIG)
    assert segments.corridors == sorted(CORRIDORS)
    # Planted: a Weibull shape of 0.9, mixed over channels, hours and customers.
    assert segments.corridor_rows()["duration_k"].is_between(0.5, 1.0).all()
