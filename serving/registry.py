"""The client of the MLflow registry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from feature_repo.contracts.credentials import without_credentials
from feature_repo.contracts.errors import SettingsError
from feature_repo.contracts.settings import Settings


def open_registry(settings: Settings) -> Any:
    """An `mlflow.MlflowClient` of the settings' registry; it connects at the first question.

    Raises:
        SettingsError: the address is none that MLflow knows.
    """
    from mlflow.exceptions import MlflowException  # noqa: PLC0415  (heavy)
    from mlflow.tracking.client import MlflowClient  # noqa: PLC0415

    url = settings.mlflow_url
    try:
        with _without_feast():
            import mlflow.tracking.request_header.registry  # noqa: F401, PLC0415
        return MlflowClient(tracking_uri=url, registry_uri=url)
    except MlflowException:
        # Not raised from it: its text, and that of what it comes from, repeat the address.
        refused = SettingsError(
            "MLFLOW_TRACKING_URI",
            without_credentials(url),
            "the address of an MLflow server, such as http://127.0.0.1:5000",
            "correct it",
        )
    raise refused


@contextmanager
def _without_feast() -> Iterator[None]:
    """Have MLflow pass over the plugin that Feast brings along, for this import.

    It imports all of Feast (6 s of every command, measured) and adds headers only to what Feast
    itself asks of MLflow. Plugins of others are loaded as ever.
    """
    from mlflow.utils import plugins  # noqa: PLC0415

    found = plugins.get_entry_points
    plugins.get_entry_points = lambda group: [
        point for point in found(group) if not point.value.startswith("feast.")
    ]
    try:
        yield
    finally:
        plugins.get_entry_points = found
