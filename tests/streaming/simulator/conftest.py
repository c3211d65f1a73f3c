from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from streaming.simulator import Simulation, World, load_world, simulate

START = datetime(2025, 6, 2, tzinfo=UTC)  # a Monday
CUSTOMERS = 6_000
SEED = 11


@pytest.fixture(scope="session")
def world() -> World:
    return load_world()


@pytest.fixture(scope="session")
def simulation(world: World) -> Simulation:
    """Three days; shared by the tests, which only read it."""
    return simulate(
        world, customers=CUSTOMERS, start=START, end=START + timedelta(days=3), seed=SEED
    )
