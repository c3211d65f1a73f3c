"""What sessions are for: own mixes that drift, and balances that tilt them a little later."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from streaming.simulator import Simulation, World, simulate
from streaming.simulator.finances import fortune_at
from streaming.simulator.people import draw_people
from tests.streaming.simulator.conftest import START, without_effects
from tests.streaming.simulator.test_cycles import residual_z, sessions_with_mixes

WEEKS = {"customers": 2_500, "start": START, "end": START + timedelta(days=14), "seed": 8}


def test_planted_chances_are_chances_and_intents_follow_them(month: Simulation) -> None:
    visits = month.truth.sessions.filter(pl.col("origin") == "visit")
    names = [intent.name for intent in month.world.intents]
    chances = visits.select([f"chance_{name}" for name in names]).to_numpy()
    assert np.allclose(chances.sum(axis=1), 1)
    for column, name in enumerate(names):
        expected = chances[:, column]
        surplus = (visits["intent"].to_numpy() == name) - expected
        spread = np.sqrt((expected * (1 - expected)).sum())
        assert abs(surplus.sum()) < 4 * spread, name
        # Also among those who were likely, and among those who were not.
        likely = expected > np.quantile(expected, 0.8)
        for some in (likely, ~likely):
            spread = np.sqrt((expected * (1 - expected))[some].sum())
            assert abs(surplus[some].sum()) < 4 * spread, name


def test_without_effects_intents_are_the_customers_own(world: World) -> None:
    planted = simulate(without_effects(world), **WEEKS)  # type: ignore[arg-type]
    sessions = sessions_with_mixes(planted).filter(pl.col("origin") == "visit")
    for name in (intent.name for intent in world.intents):
        assert np.allclose(sessions[f"chance_{name}"], sessions[f"intent_{name}"])
    assert sessions["drift"].unique().to_list() == [0.0]


def test_intents_drift_between_two_mixes_and_back(world: World) -> None:
    planted = simulate(without_effects(world, drift=1.0), **WEEKS)  # type: ignore[arg-type]
    sessions = planted.truth.sessions.filter(pl.col("origin") == "visit").join(
        planted.truth.customers, on="customer_id"
    )
    assert sessions["drift"].min() < 0.02  # type: ignore[operator]
    assert sessions["drift"].max() > 0.98  # type: ignore[operator]
    share = pl.col("drift")
    for name in ("send", "check_rate"):
        mixed = (1 - share) * pl.col(f"intent_{name}") + share * pl.col(f"drifts_to_{name}")
        assert np.allclose(sessions.select(mixed).to_series(), sessions[f"chance_{name}"])
    # Slowly: from one day to the next by little, over two weeks by a lot.
    moved = (
        sessions.sort("start_time")
        .group_by("customer_id")
        .agg(
            pl.col("drift").first().alias("first"),
            pl.col("drift").last().alias("last"),
            (
                pl.col("drift").diff().abs()
                / (pl.col("start_time").diff().dt.total_seconds() / 86_400)
            )
            .max()
            .alias("a_day"),
        )
    )
    assert moved["a_day"].max() < 0.1  # type: ignore[operator]
    assert (moved["last"] - moved["first"]).abs().mean() > 0.2  # type: ignore[operator]
    # Drawn so: who has drifted away comes for what the second mix says, not the first.
    away = pl.col("drift") > 0.8
    assert abs(residual_z(sessions, "send", away & (pl.col("intent_send") > 0.5))) > 8


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_the_balance_at_a_login_tilts_the_next_session(world: World, strength: float) -> None:
    planted = simulate(without_effects(world, finance=strength), **WEEKS)  # type: ignore[arg-type]
    pairs = (
        sessions_with_mixes(planted)
        .sort("customer_id", "start_time")
        .with_columns(
            before=pl.col("fortune").shift().over("customer_id"),
            hours=pl.col("start_time").diff().over("customer_id").dt.total_hours(),
        )
        .filter(pl.col("hours").is_between(12, 48))
    )
    found = [
        residual_z(pairs, "send", pl.col("before") == "flush"),
        -residual_z(pairs, "send", pl.col("before") == "low"),
        residual_z(pairs, "check_rate", pl.col("before") == "low"),
    ]
    if strength:
        assert min(found) > 6
    else:
        assert max(map(abs, found)) < 4


def test_how_customers_stand_lasts_for_days_and_shows_in_the_balance(
    world: World, month: Simulation
) -> None:
    people = draw_people(world, 500, seed=1)
    days = np.arange(20_000.0, 20_100.0, 0.1)
    for customer in range(0, 500, 50):
        fortune = fortune_at(world, people, np.full(len(days), customer), days, seed=1)
        changes = days[1:][np.diff(fortune) != 0]
        least = people.fortune_days[customer]
        assert np.all(np.diff(changes) >= least - 0.11)
    usual = month.truth.customers.select("customer_id", usual="balance_usd")
    ratio = (
        month.truth.sessions.join(usual, on="customer_id")
        .group_by("fortune")
        .agg((pl.col("balance_usd") / pl.col("usual")).median())
    )
    for one in world.finance.fortunes:
        found = ratio.filter(pl.col("fortune") == one.name)["balance_usd"].item()
        assert found == pytest.approx(one.balance, rel=0.05)
