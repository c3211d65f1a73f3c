"""Files beside a model in MLflow: writing and reading them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException

CARD_FILE = "model_card.md"
DECISION_FILE = "decision.json"


def add_to_model(client: mlflow.MlflowClient, model_id: str, name: str, content: bytes) -> None:
    """Put a file at the root of a logged model's artifacts."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        client.log_model_artifact(model_id, str(path))


def file_of(uri: str, name: str) -> bytes | None:
    """A file of a model, by the model's URI (`models:/name/3`); None where it has none such."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = mlflow.artifacts.download_artifacts(f"{uri}/{name}", dst_path=folder)
        except (MlflowException, OSError):
            return None
        return Path(found).read_bytes()
