"""Embedding versions in the registry: the encoders, what a warm start needs, and the decision.

Registered under `customer_embedding`. The registered model is tagged as an encoder: it answers no
prediction, so that the API passes it over.
"""

from __future__ import annotations

import io
import json
import tempfile
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import mlflow
import msgspec
import numpy as np
from mlflow.exceptions import MlflowException

from feature_repo.contracts.credentials import first_line, without_credentials
from feature_repo.contracts.embeddings import EMBEDDING_WIDTH, layout_fingerprint
from feature_repo.contracts.errors import ModelError
from feature_repo.contracts.model_files import ENCODER_KIND, KIND_TAG
from feature_repo.contracts.settings import Settings
from feature_repo.scoring.embedding import FILES, Encoder
from feature_repo.scoring.embedding_inputs import Codebook
from training.champion import champion_version
from training.embedding.config import NAME
from training.embedding.former import Former
from training.embedding.shape import Shape
from training.evaluation.gate import Decision
from training.evaluation.metrics import LOG_LOSS
from training.model_files import DECISION_FILE
from training.registry import IDENTITY_TAG

WEIGHTS_FILE = "weights.npz"
SHAPE_FILE = "shape.json"
_FOLDER = "encoder"


@dataclass(frozen=True)
class EmbeddingVersion:
    """A registered version.

    Attributes:
        version: its number in the registry, which vectors carry.
        files: as `Encoder` reads them.
        former: what a warm start goes on from.
    """

    version: int
    files: dict[str, bytes]
    former: Former

    @property
    def encoder(self) -> Encoder:
        """Loaded anew."""
        return Encoder(self.files)


@dataclass(frozen=True)
class EmbeddingCandidate:
    """A trained version with what its registration says.

    Attributes:
        files, former: see `EmbeddingVersion`.
        metrics, params: figures and configuration.
        window: of the events it has seen.
        data_fingerprint: of the sessions.
        pictures: file name -> PNG.
        card: Markdown, of its use.
    """

    files: dict[str, bytes]
    former: Former
    metrics: dict[str, float]
    params: dict[str, Any]
    window: tuple[datetime, datetime]
    data_fingerprint: str
    pictures: dict[str, bytes]
    card: str


def register_embedding(
    settings: Settings, candidate: EmbeddingCandidate, decision: Decision, identity: str
) -> int:
    """Store a candidate and create its version, last of all; returns its number.

    Raises:
        ModelError: the tracking server does not answer or refuses.
    """
    mlflow.set_tracking_uri(settings.mlflow_url)
    client = mlflow.MlflowClient()
    book = Codebook.from_json(candidate.files["embedding.json"])
    start, end = candidate.window
    tags = {
        "embedding_version": book.version,
        "state_layout": layout_fingerprint(book.hidden).hex(),
        "width": str(EMBEDDING_WIDTH),
        "training_window_start": start.isoformat(),
        "training_window_end": end.isoformat(),
        "data_fingerprint": candidate.data_fingerprint,
        IDENTITY_TAG: identity,
        "metric_name": LOG_LOSS.name,
        "metric_value": str(candidate.metrics[LOG_LOSS.name]),
        **decision.tags(),
    }
    try:
        mlflow.set_experiment(NAME)
        with mlflow.start_run(run_name=f"{NAME} {end:%Y-%m-%d %H:%M}") as run:
            mlflow.set_tags(tags)
            mlflow.log_params(candidate.params)
            mlflow.log_metrics(candidate.metrics)
            with tempfile.TemporaryDirectory() as folder:
                _write(Path(folder), candidate, decision)
                mlflow.log_artifacts(folder, _FOLDER)
            source = mlflow.get_artifact_uri(_FOLDER)
        try:
            client.create_registered_model(NAME, tags={KIND_TAG: ENCODER_KIND})
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        made = client.create_model_version(
            NAME, source, run.info.run_id, tags=tags, description=candidate.card,
            await_creation_for=None,
        )  # fmt: skip
    except MlflowException as error:
        raise ModelError(
            "MLflow",
            without_credentials(settings.mlflow_url),
            "a tracking server that takes the model",
            f"start it (make up), then retry: {first_line(error)}",
        ) from error
    return int(made.version)


def load_embedding(settings: Settings, version: int | None = None) -> EmbeddingVersion | None:
    """A version, the champion unless its number is given; None where there is no champion.

    Raises:
        ModelError: the registry does not answer, or its files cannot be read.
    """
    if version is None:
        found = champion_version(settings, NAME)
        if found is None:
            return None
        version = int(found.version)
    mlflow.set_tracking_uri(settings.mlflow_url)
    label = f"{NAME} version {version}"
    try:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(
                mlflow.artifacts.download_artifacts(f"models:/{NAME}/{version}", dst_path=scratch)
            )
            files = {name: (folder / name).read_bytes() for name in FILES}
            book = Codebook.from_json(files["embedding.json"])
            shape = msgspec.json.decode((folder / SHAPE_FILE).read_bytes(), type=Shape)
            with np.load(folder / WEIGHTS_FILE, allow_pickle=False) as stored:
                weights = {name: stored[name] for name in stored.files}
    except (MlflowException, OSError, ValueError, msgspec.MsgspecError) as error:
        raise ModelError(
            label,
            without_credentials(settings.mlflow_url),
            "a version whose files can be read",
            f"register it again (retrain_embeddings): {first_line(error)}",
        ) from error
    return EmbeddingVersion(version, files, Former(book, shape, weights))


def _write(folder: Path, candidate: EmbeddingCandidate, decision: Decision) -> None:
    for name, content in {**candidate.files, **candidate.pictures}.items():
        (folder / name).write_bytes(content)
    (folder / DECISION_FILE).write_bytes(decision.to_json())
    (folder / SHAPE_FILE).write_text(json.dumps(asdict(candidate.former.shape)))
    packed = io.BytesIO()
    # As arrays, which are read without a pickle.
    np.savez(packed, **candidate.former.weights)  # type: ignore[arg-type]
    (folder / WEIGHTS_FILE).write_bytes(packed.getvalue())
