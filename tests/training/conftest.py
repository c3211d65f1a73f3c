"""One offline store with everything, one of a click log, and a tracking store, a session each."""

from __future__ import annotations

import mlflow
import pytest

from feature_repo.contracts.settings import Settings
from tests.applied import apply_definitions
from tests.training.sessions import (
    session_events,
    settings_at,
    write_archive,
    write_batch_tables,
)
from tests.training.simulated import simulated_store, simulated_world


@pytest.fixture(scope="session")
def remittance(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Sessions with corridors, and all batch tables."""
    settings = settings_at(tmp_path_factory.mktemp("remittance"))
    write_archive(settings, session_events(12_000, 1_500))
    write_batch_tables(settings, 1_500)
    apply_definitions(settings)
    return settings


@pytest.fixture(scope="session")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Sessions of a click log: no corridor and no batch table."""
    settings = settings_at(tmp_path_factory.mktemp("clicks"))
    write_archive(settings, session_events(4_000, 800, corridors=False, seed=3))
    apply_definitions(settings)
    return settings


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Sixteen days of 1,500 simulated customers, with labels and all batch tables."""
    return simulated_store(tmp_path_factory.mktemp("world"), simulated_world(1_500, 16))


@pytest.fixture(scope="session")
def long_world(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Forty-five days of 500 simulated customers."""
    return simulated_store(tmp_path_factory.mktemp("long"), simulated_world(500, 45, seed=2))


@pytest.fixture(scope="session")
def tracked(remittance: Settings) -> Settings:
    """The remittance settings, with a tracking store that exists and keeps its artifacts there."""
    client = mlflow.MlflowClient(remittance.mlflow_url)
    client.create_experiment(
        "session_duration", artifact_location=str(remittance.home / "artifacts")
    )
    return remittance
