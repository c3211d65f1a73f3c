"""Where customers stand in their cycle, and what it does to their sessions."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from streaming.simulator import Simulation, World, simulate
from streaming.simulator.cycles import AWAY, need_at
from streaming.simulator.people import draw_people
from tests.streaming.simulator.conftest import START, without_effects

DAYS = np.arange(20_000, 20_200, 0.25)


def test_a_cycle_is_a_function_of_customer_and_instant(world: World) -> None:
    people = draw_people(world, 40, seed=2)
    everybody = np.arange(40)
    at_once = need_at(
        world, people, np.repeat(everybody, len(DAYS)), np.tile(DAYS, 40), seed=2
    ).stage.reshape(40, -1)
    # One instant at a time, latest first, for fewer people: nothing depends on what came before.
    few = draw_people(world, 7, seed=2)
    for column in (len(DAYS) - 1, 300, 0):
        one = need_at(world, few, np.arange(7), np.full(7, DAYS[column]), seed=2)
        assert one.stage.tolist() == at_once[:7, column].tolist()


def test_spells_come_back_at_the_customers_own_length(world: World) -> None:
    people = draw_people(world, 200, seed=3)
    for customer in range(200):
        need = need_at(world, people, np.full(len(DAYS), customer), DAYS, seed=3)
        begins = DAYS[1:][(need.stage[1:] > AWAY) & (need.stage[:-1] == AWAY)]
        length = people.cycle_days[customer]
        gaps = np.diff(begins)
        assert len(gaps) >= 200 / length - 3
        # Late by at most the jitter, and seen every quarter of a day.
        assert np.all(np.abs(gaps - length) <= world.cycle.jitter * length + 0.26)
        # Stages follow each other; none is left out but by the quarter days.
        steps = np.diff(need.stage)
        assert set(steps[steps > 0].tolist()) <= {1, 2}
        assert np.mean(steps[steps > 0] == 1) > 0.9


def test_customers_are_mostly_true_to_their_kind_of_spell(world: World) -> None:
    people = draw_people(world, 3_000, seed=4)
    need = need_at(world, people, np.arange(3_000), np.full(3_000, 20_000.5), seed=4)
    share = np.array([spell.share for spell in world.cycle.spells])
    loyalty = world.cycle.loyalty
    usual = float((need.spell == people.spell).mean())
    expected = loyalty + (1 - loyalty) * float((share**2).sum() / share.sum() ** 2)
    assert usual == pytest.approx(expected, abs=0.03)


def residual_z(sessions: pl.DataFrame, intent: str, chosen: pl.Expr) -> float:
    """How far an intent's share among chosen sessions lies from the customers' own mixes.

    In standard errors; about normal if the intent does not depend on what was chosen.
    """
    own = sessions.filter(chosen & (pl.col("origin") == "visit"))
    chance = own[f"intent_{intent}"].to_numpy()
    surplus = ((own["intent"] == intent).to_numpy() - chance).sum()
    return float(surplus / np.sqrt((chance * (1 - chance)).sum()))


def sessions_with_mixes(simulation: Simulation) -> pl.DataFrame:
    mixes = simulation.truth.customers.select("customer_id", pl.col("^intent_.*$"))
    return simulation.truth.sessions.join(mixes, on="customer_id")


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_the_need_shapes_what_people_come_for(world: World, strength: float) -> None:
    planted = simulate(
        without_effects(world, cycle=strength),
        customers=3_000,
        start=START,
        end=START + timedelta(days=7),
        seed=6,
    )
    sessions = sessions_with_mixes(planted)
    found = [
        residual_z(sessions, intent, pl.col("stage") == stage)
        for intent, stage in (
            ("check_rate", "before"),
            ("send", "at"),
            ("track", "after"),
            ("browse", "looking"),
        )
    ]
    rates = sessions.group_by("stage").len().sort("len")
    assert rates.height == 5
    if strength:
        assert min(found) > 5
    else:
        assert max(map(abs, found)) < 4


def test_people_come_more_often_when_the_need_is_near(world: World) -> None:
    window = {"customers": 3_000, "start": START, "end": START + timedelta(days=7), "seed": 6}
    near, plain = (
        simulate(without_effects(world, cycle=strength), **window)  # type: ignore[arg-type]
        for strength in (1.0, 0.0)
    )
    share = [
        (item.truth.sessions["stage"] == "at").mean()  # share of sessions; of days it is the same
        for item in (near, plain)
    ]
    assert share[0] > 1.4 * share[1]  # type: ignore[operator]


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_the_order_of_sessions_carries_more_than_the_one_before(
    world: World, strength: float
) -> None:
    """After a look at the rates, whether money was sent shortly before tells what comes next."""
    planted = simulate(
        without_effects(world, cycle=strength),
        customers=3_000,
        start=START,
        end=START + timedelta(days=14),
        seed=6,
    )
    sent_at = pl.when(pl.col("intent") == "send").then("start_time")
    ordered = (
        sessions_with_mixes(planted)
        .sort("customer_id", "start_time")
        .with_columns(
            before=pl.col("intent").shift().over("customer_id"),
            sent=pl.col("start_time") - sent_at.forward_fill().shift().over("customer_id"),
        )
        .filter(pl.col("before") == "check_rate", pl.col("start_time") > START + timedelta(days=4))
    )
    # Were the session before all that counts, both would lie as far from the customers' mixes.
    just_sent = (pl.col("sent") < timedelta(days=4)).fill_null(False)
    apart = [residual_z(ordered, "send", chosen) for chosen in (~just_sent, just_sent)]
    difference = (apart[0] - apart[1]) / 2**0.5
    assert (difference > 5) if strength else (abs(difference) < 4)
