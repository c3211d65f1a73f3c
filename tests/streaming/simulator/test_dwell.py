from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.optimize import brentq

from streaming.simulator import Simulation, World
from streaming.simulator.dwell import draw_page_dwell
from streaming.simulator.randomness import Floats
from tests.streaming.simulator.conftest import inside


def weibull_k(t: Floats) -> float:
    """Maximum-likelihood shape of uncensored Weibull times."""
    logs = np.log(t)

    def score(k: float) -> float:
        power = t**k
        return float((power * logs).sum() / power.sum() - 1 / k - logs.mean())

    return float(brentq(score, 0.05, 5))


@pytest.fixture(scope="module")
def dwells(simulation: Simulation) -> pl.DataFrame:
    """Seconds from each event to the next in its session, over the session's and page's scale."""
    # A session's events follow its first event, known from the truth.
    # Bursts of payments have a pace of their own.
    sessions = simulation.truth.sessions.filter(pl.col("origin") != "card_test").select(
        "customer_id", pl.col("start_time").alias("event_time"), "first_event_id", "dwell_factor",
        pl.col("corridor"),
    ).sort("event_time")  # fmt: skip
    events = inside(pl.DataFrame(pl.from_arrow(simulation.events))).select(
        "customer_id", "event_time", "page"
    )
    joined = events.join_asof(sessions, on="event_time", by="customer_id", check_sortedness=False)
    gaps = joined.with_columns(
        dwell_s=pl.col("event_time")
        .diff()
        .shift(-1)
        .over("customer_id", "first_event_id")
        .dt.total_microseconds()
        / 1e6
    ).drop_nulls("dwell_s")
    # Times of 0 µs have no logarithm; capped ones are censored. Both are a handful.
    longest_s = simulation.world.sessions.longest_dwell_s
    return (
        gaps.filter((pl.col("dwell_s") > 0) & (pl.col("dwell_s") < longest_s))
        .join(simulation.truth.pages, on=["page", "corridor"])
        .with_columns(t=pl.col("dwell_s") / (pl.col("dwell_factor") * pl.col("lambda_s")))
    )


def test_planted_shapes_are_below_one_for_every_page_and_corridor(simulation: Simulation) -> None:
    pages, world = simulation.truth.pages, simulation.world
    assert pages.height == len(world.pages) * len(world.corridors)
    assert pages["k"].max() < 1  # type: ignore[operator]
    assert pages.select(pl.struct("page", "corridor").n_unique()).item() == pages.height


def test_every_pages_shape_is_recovered_from_the_events(world: World, dwells: pl.DataFrame) -> None:
    for page in world.pages:
        t = dwells.filter(pl.col("page") == page.name)["t"].to_numpy()
        assert len(t) > 100, page.name
        # Four standard errors of the estimate (0.78 k / sqrt n), and what corridors differ by.
        within = 4 * 0.78 / np.sqrt(len(t)) + 0.04
        assert weibull_k(t) == pytest.approx(page.k, rel=within), page.name
        assert weibull_k(t) < 1


def test_scales_are_recovered(dwells: pl.DataFrame) -> None:
    # Over its own scale, a Weibull time to the power k is a standard exponential: mean 1.
    means = dwells.group_by("page").agg((pl.col("t") ** pl.col("k")).mean(), pl.len())
    big = means.filter(pl.col("len") > 2_000)
    assert big.height >= 5
    assert big["t"].to_numpy() == pytest.approx(np.ones(big.height), abs=0.08)


def test_parameters_depend_on_the_seed_alone(world: World) -> None:
    first, again, other = (draw_page_dwell(world, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.k, again.k)
    assert not np.array_equal(first.lambda_s, other.lambda_s)
