"""A Prefect server for the flows' tests, and a small offline store to train on."""

from __future__ import annotations

from collections.abc import Iterator

import mlflow
import pytest
from prefect.testing.utilities import prefect_test_harness

from feature_repo.contracts.settings import Settings
from tests.applied import apply_definitions
from tests.training.sessions import (
    session_events,
    settings_at,
    write_archive,
    write_batch_tables,
)


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A temporary Prefect server with its own database."""
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def trainable(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Sessions, batch tables, an applied registry and a tracking store."""
    settings = settings_at(tmp_path_factory.mktemp("flows"))
    write_archive(settings, session_events(6_000, 1_000))
    write_batch_tables(settings, 1_000, days=3)
    apply_definitions(settings)
    mlflow.MlflowClient(settings.mlflow_url).create_experiment(
        "session_duration", artifact_location=str(settings.home / "artifacts")
    )
    return settings


@pytest.fixture
def environment(trainable: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings as the flows find them: in the environment."""
    for name, value in trainable.environment().items():
        if name != "PREFECT_API_URL":  # the harness has its own
            monkeypatch.setenv(name, value)
    return trainable
