"""Payments that fail for good lead to tracking sessions within hours and to calls within a day."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from streaming.simulator import Simulation, World, simulate
from tests.streaming.simulator.conftest import START, with_effects, without_effects

WEEK = {"customers": 6_000, "start": START, "end": START + timedelta(days=7), "seed": 9}
DAY = timedelta(days=1)


def events_of(simulation: Simulation) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(simulation.events))


def sends(simulation: Simulation) -> pl.DataFrame:
    """Customers' sessions with a settled payment: whether it failed for good, and what followed."""
    day = pl.col("start_time") < simulation.end - timedelta(days=2)
    sessions = simulation.truth.sessions.filter(pl.col("origin") == "visit", day)
    events = events_of(simulation).filter(
        pl.col("event_type").is_in(["payment_confirmed", "payment_failed"])
    )
    settled = (
        events.sort("event_time")
        .join_asof(
            sessions.select("customer_id", "first_event_id", event_time="start_time").sort(
                "event_time"
            ),
            on="event_time",
            by="customer_id",
            tolerance="3h",
        )
        .group_by("first_event_id")
        .agg(failed=~(pl.col("event_type") == "payment_confirmed").any())
    )
    following = (
        simulation.truth.sessions.sort("customer_id", "start_time")
        .with_columns(
            tracks=(
                (pl.col("intent").shift(-1) == "track")
                & (pl.col("start_time").shift(-1) - pl.col("start_time") < timedelta(hours=14))
            ).over("customer_id")
        )
        .select("first_event_id", "tracks")
    )
    return sessions.join(settled, on="first_event_id").join(following, on="first_event_id")


def surplus_z(frame: pl.DataFrame, column: str, chosen: pl.Expr) -> float:
    """Difference of a column's share between chosen rows and the others, in standard errors."""
    one, other = frame.filter(chosen)[column], frame.filter(~chosen)[column]
    share = frame[column].mean()
    assert isinstance(share, float)
    spread = np.sqrt(share * (1 - share) * (1 / len(one) + 1 / len(other)))
    return float((one.mean() - other.mean()) / spread)  # type: ignore[operator]


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_failed_payments_lead_to_tracking_sessions(world: World, strength: float) -> None:
    planted = simulate(without_effects(world, failure_tracking=strength), **WEEK)  # type: ignore[arg-type]
    found = sends(planted).with_columns(pl.col("tracks").fill_null(False))
    assert found["failed"].sum() > 150
    z = surplus_z(found, "tracks", pl.col("failed"))
    assert (z > 10) if strength else (abs(z) < 4)
    follow_ups = planted.truth.sessions.filter(pl.col("origin") == "follow_up")
    assert (follow_ups.height > 50) is bool(strength)
    assert set(follow_ups["intent"]) <= {"track"}


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_failed_payments_lead_to_calls(world: World, strength: float) -> None:
    planted = simulate(without_effects(world, failure_calls=strength), **WEEK)  # type: ignore[arg-type]
    found = sends(planted)
    z = surplus_z(found, "call", pl.col("failed"))
    assert (z > 10) if strength else (abs(z) < 4)


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_customers_and_intents_make_calls_likelier(world: World, strength: float) -> None:
    planted = simulate(without_effects(world, callers=strength), **WEEK)  # type: ignore[arg-type]
    sessions = planted.truth.sessions
    found = [
        surplus_z(sessions, "call", pl.col("persona") == "newcomer"),
        surplus_z(sessions, "call", pl.col("intent") == "get_help"),
    ]
    assert (min(found) > 6) if strength else (max(map(abs, found)) < 4)


def test_follow_ups_start_hours_after_the_payment_also_on_the_next_day(month: Simulation) -> None:
    ordered = month.truth.sessions.sort("customer_id", "start_time").with_columns(
        ended=(pl.col("start_time") + pl.duration(microseconds=pl.col("duration_s") * 1e6))
        .shift()
        .over("customer_id")
    )
    follow_ups = ordered.filter(pl.col("origin") == "follow_up")
    hours = (follow_ups["start_time"] - follow_ups["ended"]).dt.total_seconds() / 3600
    world = month.world
    assert follow_ups.height > 200
    longest = world.follow_ups.longest_delay_hours + world.sessions.shortest_silence_s / 3600
    shortest = (world.sessions.shortest_silence_s - 1) / 3600
    # Seldom the session before is a visit of the day that the follow-up starts on.
    assert hours.is_between(shortest, longest).mean() > 0.97  # type: ignore[operator]
    crossing = follow_ups.filter(pl.col("start_time").dt.date() > pl.col("ended").dt.date())
    assert crossing.height > 10


def test_every_planted_call_is_an_event_within_a_day(month: Simulation) -> None:
    calls = events_of(month).filter(pl.col("event_type") == "support_contact")
    callers = month.truth.sessions.filter(
        pl.col("call"), pl.col("start_time") < month.end - 2 * DAY
    ).select("customer_id", "start_time", "duration_s")
    pairs = callers.join(calls.select("customer_id", called="event_time"), on="customer_id").filter(
        pl.col("called").is_between(
            pl.col("start_time") + pl.duration(microseconds=pl.col("duration_s") * 1e6),
            pl.col("start_time") + DAY,
        )
    )
    assert pairs.unique(["customer_id", "start_time"]).height == callers.height > 1_000
    # And no call comes from nowhere: there are as many as sessions that led to one.
    inside = calls.filter(pl.col("event_time") >= START + 2 * DAY)
    from_here = month.truth.sessions.filter(pl.col("call"), pl.col("start_time") >= START + 2 * DAY)
    assert inside.height == pytest.approx(from_here.height, abs=0.05 * inside.height)


def test_about_three_sessions_in_a_hundred_lead_to_a_call(month: Simulation) -> None:
    assert 0.015 < month.truth.sessions["call"].mean() < 0.04  # type: ignore[operator]
    chance = month.truth.sessions["call_chance"].to_numpy()
    surplus = (month.truth.sessions["call"].to_numpy() - chance).sum()
    assert abs(surplus) < 4 * np.sqrt((chance * (1 - chance)).sum())


def test_strangers_do_not_call(world: World) -> None:
    planted = simulate(with_effects(world, account_takeover=40.0, card_testing=40.0), **WEEK)  # type: ignore[arg-type]
    strangers = planted.truth.sessions.filter(pl.col("origin").is_in(["takeover", "card_test"]))
    assert strangers.height > 500
    assert not strangers["call"].any()
