"""What nobody can know of a session's duration, and the strengths of what can be known."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import numpy as np
import polars as pl
import pytest

from streaming.simulator import Simulation, World, WorldError, duration_floor, simulate
from streaming.simulator.duration_floor import DurationFloor
from streaming.simulator.knobs import Step
from tests.streaming.simulator.conftest import SEED, START, with_effects, without_effects

DAY = {"customers": 4_000, "start": START, "end": START + timedelta(days=1), "seed": SEED}


@pytest.fixture(scope="module")
def floor(simulation: Simulation) -> DurationFloor:
    return duration_floor(simulation, redraws=10)


def test_knowing_the_intent_leaves_less(simulation: Simulation, floor: DurationFloor) -> None:
    assert 0.9 < floor.intent_known < floor.at_login - 0.03
    visits = simulation.truth.sessions.filter(pl.col("origin") == "visit")
    assert floor.sessions == pytest.approx(visits.height, rel=0.01)  # those too close fall out
    spread = visits["duration_s"].log1p().std()
    assert floor.at_login < 0.85 * spread  # type: ignore[operator]
    assert duration_floor(simulation, redraws=10) == floor


def test_the_floor_does_not_depend_on_the_redraws_and_nothing_goes_below_it(world: World) -> None:
    planted = simulate(world, **DAY)  # type: ignore[arg-type]
    few, many = (duration_floor(planted, redraws=count) for count in (2, 40))
    assert few.at_login == pytest.approx(many.at_login, rel=0.03)
    assert few.intent_known == pytest.approx(many.intent_known, rel=0.03)
    # Nobody who predicts what is planted by intent, persona and dwell factor does better.
    visits = planted.truth.sessions.filter(pl.col("origin") == "visit").with_columns(
        log_s=pl.col("duration_s").log1p(), factor=pl.col("dwell_factor").log()
    )
    columns = [
        np.ones(visits.height),
        visits["factor"].to_numpy(),
        *(
            (visits["intent"] == name).to_numpy()
            for name in visits["intent"].unique(maintain_order=True)
        ),
    ]
    design = np.column_stack(columns).astype(np.float64)
    solved, *_ = np.linalg.lstsq(design, visits["log_s"].to_numpy(), rcond=None)
    rmse = np.sqrt(np.mean((design @ solved - visits["log_s"].to_numpy()) ** 2))
    # The dwell factor holds the session's own noise, which the floor does not know.
    noise = world.sessions.session_sigma
    assert np.sqrt(rmse**2 + noise**2) > many.intent_known


def test_a_world_whose_spread_is_known(world: World) -> None:
    """One page of one Weibull time, nothing else: its spread is what nobody can know."""
    page = world.pages[2]
    steps = (Step("login", page.name), Step("logout", page.name))  # type: ignore[arg-type]
    plain = without_effects(
        msgspec.structs.replace(
            world,
            intents=tuple(
                msgspec.structs.replace(intent, steps=steps)
                if intent.name != world.fraud.intent
                else intent
                for intent in world.intents
            ),
            personas=tuple(
                msgspec.structs.replace(persona, intents={"browse": 1.0})
                for persona in world.personas
            ),
            sessions=msgspec.structs.replace(world.sessions, session_sigma=0.0),
        )
    )
    found = duration_floor(simulate(plain, **DAY), redraws=30)  # type: ignore[arg-type]
    rng = np.random.default_rng(1)
    times = np.minimum(page.lambda_s * rng.weibull(page.k, 400_000), world.sessions.longest_dwell_s)
    assert found.at_login == pytest.approx(np.log1p(times).std(), rel=0.02)
    assert found.intent_known == pytest.approx(found.at_login, rel=0.02)


def test_too_few_redraws_are_refused(simulation: Simulation) -> None:
    with pytest.raises(WorldError, match="redraws"):
        duration_floor(simulation, redraws=1)


FACTORS = {
    "duration_customer": pl.col("persona").replace_strict(
        {"newcomer": 1.0, "rate_watcher": -1.0}, default=0.0
    ),
    "duration_device": pl.col("channel").replace_strict({"web": 1.0, "app": -1.0}),
    "duration_hour": ((pl.col("local_hour") - 22.0) * 2 * np.pi / 24).cos(),
    "duration_age": pl.col("age_band").replace_strict({"18-24": -1.0, "55+": 1.0}, default=0.0),
    "duration_tenure": -pl.col("tenure_days").log(),
}


@pytest.mark.parametrize("effect", FACTORS)
def test_each_factor_on_durations_can_be_switched_off(world: World, effect: str) -> None:
    z = []
    for strength in (0.0, 1.0):
        planted = simulate(without_effects(world, **{effect: strength}), **DAY)  # type: ignore[arg-type]
        profile = planted.batch_features(START.date())["customer_profile"]
        offsets = {country.code: country.utc_offset_hours for country in world.countries}
        hour = pl.col("start_time").dt.hour() + pl.col("start_time").dt.minute() / 60
        sessions = (
            planted.truth.sessions.filter(pl.col("origin") == "visit")
            .join(profile.select("customer_id", "age_band", "tenure_days"), on="customer_id")
            .with_columns(
                local_hour=hour
                + pl.col("corridor")
                .str.slice(0, 2)
                .replace_strict(offsets, return_dtype=pl.Float64)
            )
            # One session a customer: sessions of one are not independent.
            .unique("customer_id", keep="first", maintain_order=True)
        )
        factor = sessions.select(FACTORS[effect]).to_series().to_numpy()
        logs = sessions["dwell_factor"].log().to_numpy()
        z.append(float(np.corrcoef(factor, logs)[0, 1] * len(logs) ** 0.5))
    assert abs(z[0]) < 4
    assert z[1] > 10


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_the_corridors_pages_can_be_made_alike(world: World, strength: float) -> None:
    planted = simulate(
        with_effects(world, duration_corridor=strength),
        customers=10,
        start=START,
        end=START + timedelta(hours=1),
        seed=SEED,
    )
    spread = planted.truth.pages.group_by("page").agg(pl.col("k", "lambda_s").log().std())
    if strength:
        assert spread["lambda_s"].min() > 0.1  # type: ignore[operator]
    else:
        assert spread["lambda_s"].max() == pytest.approx(0.0, abs=1e-12)
        assert spread["k"].max() == pytest.approx(0.0, abs=1e-12)
