"""A simulated world as an offline store, with its planted truth beside it for tests alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from feature_repo.contracts.settings import Settings
from streaming.simulator import load_world, simulate
from streaming.simulator.simulation import Simulation
from tests.applied import apply_definitions
from tests.streaming.simulator.conftest import with_effects
from tests.training.sessions import settings_at, write_archive

FIRST_DAY = datetime(2025, 6, 2, tzinfo=UTC)


def simulated_world(customers: int, days: int, seed: int = 1, **strengths: float) -> Simulation:
    """So many days of the default world; `strengths` of effects that are to be others."""
    return simulate(
        with_effects(load_world(), **strengths),
        customers=customers,
        start=FIRST_DAY,
        end=FIRST_DAY + timedelta(days=days),
        seed=seed,
    )


def simulated_store(home: Path, simulation: Simulation) -> Settings:
    """The world's events and daily batch tables, with the definitions applied."""
    settings = settings_at(home)
    write_archive(settings, events_of(simulation))
    for day in simulation.batch_days():
        for view, table in simulation.batch_features(day).items():
            folder = settings.batch_table(view) / f"event_date={day}"
            folder.mkdir(parents=True, exist_ok=True)
            table.write_parquet(folder / f"{view}.parquet")
    apply_definitions(settings)
    return settings


def events_of(simulation: Simulation) -> pl.DataFrame:
    """The events in the order of the log."""
    events = pl.from_arrow(simulation.events)
    assert isinstance(events, pl.DataFrame)
    return events
