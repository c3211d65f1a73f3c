from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import polars as pl
import pytest

from feature_repo.contracts.events import OUTSIDE_SESSION
from streaming.simulator import Simulation, World, load_world, simulate

START = datetime(2025, 6, 2, tzinfo=UTC)  # a Monday
CUSTOMERS = 6_000
SEED = 11


def with_effects(world: World, **strengths: float) -> World:
    """The world with some effects at other strengths."""
    effects = msgspec.structs.replace(world.effects, **strengths)
    return msgspec.structs.replace(world, effects=effects)


def without_effects(world: World, **strengths: float) -> World:
    """The world with no effect at all but those given."""
    none = dict.fromkeys(world.effects.__struct_fields__, 0.0)
    return with_effects(world, **(none | strengths))


def inside(events: pl.DataFrame) -> pl.DataFrame:
    """The events of sessions: no balances, calls, reports, labels."""
    return events.filter(~pl.col("event_type").is_in(sorted(OUTSIDE_SESSION)))


@pytest.fixture(scope="session")
def world() -> World:
    return load_world()


@pytest.fixture(scope="session")
def month(world: World) -> Simulation:
    """Four weeks; shared by the tests, which only read it."""
    return simulate(world, customers=4_000, start=START, end=START + timedelta(days=28), seed=5)


@pytest.fixture(scope="session")
def simulation(world: World) -> Simulation:
    """Three days; shared by the tests, which only read it."""
    return simulate(
        world, customers=CUSTOMERS, start=START, end=START + timedelta(days=3), seed=SEED
    )
