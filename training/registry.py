"""Logging a judged model to MLflow and registering it; the only place that creates versions.

The version is created last, with all its tags, after everything it points to is stored: a run
killed half-way leaves an unregistered run, never half a version. Aliases are serving's.
"""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from importlib import import_module
from importlib.metadata import version as installed
from pathlib import Path

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.models.model import ModelInfo
from mlflow.types import ColSpec, Schema, TensorSpec

from feature_repo.contracts.credentials import first_line, without_credentials
from feature_repo.contracts.errors import ModelError
from feature_repo.contracts.model_files import (
    ANOMALY_FILE,
    ANSWER_FILE,
    CALIBRATION_FILE,
    GOLDEN_FILE,
    INPUTS_FILE,
    NETWORK_FILE,
)
from feature_repo.contracts.settings import Settings
from feature_repo.scoring.one_version import guarded
from feature_repo.scoring.scorers import Trees
from training.candidate import Candidate
from training.evaluation.gate import Decision
from training.model_card import joined, model_card
from training.model_files import CARD_FILE, DECISION_FILE, add_to_model

log = logging.getLogger(__name__)

IDENTITY_TAG = "identity"
# Of the vectors that a version was trained on; absent where it is fed none.
EMBEDDING_TAG = "embedding_version"
_CODE = Path(__file__).with_name("mlflow_version.py")


def register(
    settings: Settings, candidate: Candidate, decision: Decision, identity: str = ""
) -> int:
    """Log a candidate in an experiment of its name and create a version; returns its number.

    Args:
        decision: whether it is to serve; its tags say so, moving the alias is serving's.
        identity: of `training.candidate.identity_of`, by which the same one is found again.

    Raises:
        ModelError: the tracking server does not answer or refuses.

    Trap: MLflow keeps its tracking URI per process; this sets it.
    """
    name = candidate.name
    golden = candidate.golden()
    mlflow.set_tracking_uri(settings.mlflow_url)
    client = mlflow.MlflowClient()
    try:
        experiment_id = _experiment(client, name)
        with mlflow.start_run(
            experiment_id=experiment_id, run_name=f"{name} {candidate.window[1]:%Y-%m-%d %H:%M}"
        ) as run:
            tags = _tags(candidate) | decision.tags() | {IDENTITY_TAG: identity}
            mlflow.set_tags(tags)
            mlflow.log_params(candidate.params)
            mlflow.log_metrics(candidate.metrics)
            _log_files(candidate, decision)
            _import_quietly()
            model = _log_model(candidate)
            files = {
                INPUTS_FILE: candidate.inputs.to_json(),
                GOLDEN_FILE: golden.to_json(),
                DECISION_FILE: decision.to_json(),
                CARD_FILE: model_card(candidate, decision).encode(),
            }
            if candidate.calibration is not None:
                files[CALIBRATION_FILE] = candidate.calibration.to_json()
            if candidate.answer is not None:
                files[ANSWER_FILE] = candidate.answer.to_json()
            for file, content in files.items():
                add_to_model(client, model.model_id, file, content)
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        version = client.create_model_version(
            name,
            f"models:/{model.model_id}",
            run.info.run_id,
            tags=tags,
            description=joined(candidate.card),
            await_creation_for=None,  # everything it points to is stored already
            model_id=model.model_id,
        )
    except MlflowException as error:
        raise ModelError(
            "MLflow",
            without_credentials(settings.mlflow_url),
            "a tracking server that takes the model",
            f"start it (make up), then retry: {first_line(error)}",
        ) from error
    log.info("registered %s version %s", name, version.version)
    return int(version.version)


def registered(settings: Settings, name: str, identity: str) -> int | None:
    """The version of this identity that is there already, the latest one; None: there is none.

    Raises:
        ModelError: the tracking server does not answer.
    """
    client = mlflow.MlflowClient(settings.mlflow_url)
    try:
        found = client.search_model_versions(
            f"name = '{name}' and tags.`{IDENTITY_TAG}` = '{identity}'"
        )
    except MlflowException as error:
        raise ModelError(
            "MLflow",
            without_credentials(settings.mlflow_url),
            "a tracking server that answers",
            f"start it (make up), then retry: {first_line(error)}",
        ) from error
    return max((int(version.version) for version in found), default=None)


def tags_of(settings: Settings, name: str, version: int) -> dict[str, str]:
    """What a version's tags say."""
    client = mlflow.MlflowClient(settings.mlflow_url)
    return dict(client.get_model_version(name, str(version)).tags)


def reject(settings: Settings, name: str, version: int, reason: str) -> None:
    """Tag a version as rejected, with the reason; whatever serves goes on serving."""
    client = mlflow.MlflowClient(settings.mlflow_url)
    client.set_model_version_tag(name, str(version), "rejected", reason)
    log.info("rejected %s version %s: %s", name, version, reason)


def _tags(candidate: Candidate) -> dict[str, str]:
    start, end = candidate.window
    embedded = candidate.inputs.embedding_version
    return {
        "feature_service": candidate.inputs.feature_service,
        "features": json.dumps([item.ref for item in candidate.inputs.inputs]),
        "schema_fingerprint": candidate.inputs.fingerprint,
        "training_window_start": start.isoformat(),
        "training_window_end": end.isoformat(),
        "target": candidate.target,
        "target_transform": candidate.target_transform,
        "unit": candidate.unit,
        "metric_name": candidate.metric_name,
        "metric_value": repr(candidate.metric_value),
        "data_fingerprint": candidate.data_fingerprint,
        **({} if embedded is None else {EMBEDDING_TAG: str(embedded)}),
        **candidate.tags,
    }


def _import_quietly() -> None:
    # MLflow's own agent types set off its own warning about type hints when first imported.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*type hint is inferred as AnyType", UserWarning)
        import_module("mlflow.pyfunc")


def _log_model(candidate: Candidate) -> ModelInfo:
    """Trees alone as MLflow's own flavour; with a network, or fed an embedding, which must be of
    one version, as code that MLflow runs."""
    scorer, signature = guarded(candidate.scorer, candidate.inputs), _signature(candidate)
    # Named here: MLflow would otherwise load the model in a process to find out.
    needed = [f"{lib}=={installed(lib)}" for lib in ("lightgbm", "numpy")]
    if isinstance(scorer, Trees) and scorer.anomaly is None:
        return mlflow.lightgbm.log_model(
            scorer.booster, name=candidate.name, signature=signature, pip_requirements=needed
        )
    with tempfile.TemporaryDirectory() as folder:
        artifacts, files = {}, scorer.files()
        networks = (
            [f"onnxruntime=={installed('onnxruntime')}"]
            if {ANOMALY_FILE, NETWORK_FILE} & files.keys()
            else []
        )
        for file, content in files.items():
            Path(folder, file).write_bytes(content)
            artifacts[Path(file).stem] = str(Path(folder, file))
        with warnings.catch_warnings():
            # There is a signature; the golden rows are the example.
            warnings.filterwarnings("ignore", "(?s).*input example was not provided", UserWarning)
            return mlflow.pyfunc.log_model(
                name=candidate.name,
                python_model=str(_CODE),
                artifacts=artifacts,
                signature=signature,
                pip_requirements=[*needed, *networks],
            )


def _signature(candidate: Candidate) -> ModelSignature:
    classes = () if candidate.answer is None else candidate.answer.classes
    return ModelSignature(
        inputs=Schema([ColSpec("double", name) for name in candidate.inputs.columns]),
        outputs=Schema(
            [TensorSpec(np.dtype(np.float64), (-1, len(classes)))]
            if classes
            else [ColSpec("double")]
        ),
    )


def _experiment(client: mlflow.MlflowClient, name: str) -> str:
    experiment = client.get_experiment_by_name(name)
    return str(experiment.experiment_id if experiment else client.create_experiment(name))


def _log_files(candidate: Candidate, decision: Decision) -> None:
    tables = {"importance": candidate.importance, "slices": decision.table(), **candidate.tables}
    with tempfile.TemporaryDirectory() as folder:
        for name, table in tables.items():
            table.write_csv(Path(folder, f"{name}.csv"))
        for name, content in {**candidate.pictures, **candidate.files}.items():
            Path(folder, name).write_bytes(content)
        Path(folder, CARD_FILE).write_text(model_card(candidate, decision))
        Path(folder, DECISION_FILE).write_bytes(decision.to_json())
        mlflow.log_artifacts(folder)
