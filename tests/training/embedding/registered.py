"""Embedding versions in a registry that nobody judged: for models that are fed vectors."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import mlflow

from feature_repo.contracts.settings import Settings
from feature_repo.scoring.embedding_inputs import Codebook
from tests.training.embedding.made import shape, untrained_files, untrained_weights
from training.embedding.config import NAME
from training.embedding.former import Former
from training.embedding.versions import EmbeddingCandidate, EmbeddingVersion, register_embedding
from training.evaluation.bootstrap import Interval
from training.evaluation.gate import Decision


def untrained_version(number: int = 1) -> EmbeddingVersion:
    """As it is loaded; another number is another network."""
    files = untrained_files(seed=number)
    book = Codebook.from_json(files["embedding.json"])
    return EmbeddingVersion(number, files, Former(book, shape(), untrained_weights(number)))


def register_untrained(settings: Settings, number: int) -> int:
    """Register it as the champion; its number in the registry."""
    version = untrained_version(number)
    return register_made(settings, version.files, version.former)


def register_made(settings: Settings, files: dict[str, bytes], former: Former) -> int:
    """Register an encoder as the champion, which nobody has judged; its number in the registry."""
    now = datetime(2025, 6, 2, tzinfo=UTC)
    candidate = EmbeddingCandidate(
        files=files,
        former=former,
        metrics={"log_loss": 1.0},
        params={},
        window=(now, now),
        data_fingerprint="made",
        pictures={},
        card="Nobody judged it.",
    )
    decision = Decision(True, "nobody", "log_loss", 1.0, 1.0, Interval(0.0, 0.0), ("made",))
    made = register_embedding(settings, candidate, decision, "made")
    serve(settings, made)
    return made


def serve(settings: Settings, version: int) -> None:
    """Move the champion's alias, as serving does."""
    client = mlflow.MlflowClient(settings.mlflow_url)
    client.set_registered_model_alias(NAME, "champion", str(version))


def with_registry(settings: Settings, folder: Path, *experiments: str) -> Settings:
    """The same stores, with a registry of their own."""
    tracked = replace(settings, mlflow_url=f"sqlite:///{folder}/mlflow.db")
    client = mlflow.MlflowClient(tracked.mlflow_url)
    for name in (NAME, *experiments):
        client.create_experiment(name, artifact_location=str(folder / "artifacts" / name))
    return tracked
