"""Logging a trained model to MLflow and registering it; the only place that creates versions.

The version is created last, with all its tags, after everything it points to is stored: a run
killed half-way leaves an unregistered run, never half a version. Aliases are serving's.
"""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from importlib.metadata import version as installed
from pathlib import Path

import lightgbm as lgb
import mlflow
import numpy as np
import numpy.typing as npt
import polars as pl
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

from feature_repo.contracts.credentials import first_line, without_credentials
from feature_repo.contracts.errors import ModelError
from feature_repo.contracts.model_files import CALIBRATION_FILE, GOLDEN_FILE, Calibration, Golden
from feature_repo.contracts.model_inputs import ModelInputs
from feature_repo.contracts.settings import Settings
from feature_repo.contracts.target_scale import BACK_TRANSFORMS

log = logging.getLogger(__name__)

INPUTS_FILE = "model_inputs.json"


@dataclass(frozen=True)
class Candidate:
    """A trained and judged model, ready to be registered.

    Attributes:
        inputs: what it is fed; `inputs.feature_service` is also the registered model's name.
        booster: the LightGBM model.
        target: what it predicts, such as `session_duration_s`.
        target_transform: what was done to the target before training (`log1p`); whoever serves
            undoes it.
        unit: of the target after undoing.
        metric_name, metric_value: the metric it is judged by, on the test part.
        metrics: all figures.
        params: configuration.
        window: start and end of the events it has seen.
        data_fingerprint: hash of its data set.
        importance: table of `training.importance`.
        picture: the same as a PNG.
        tags: more tags for the version.
        examples: rows of the model's matrix, shape (n, width), on which whoever loads the version
            proves that it is this one (`golden_rows`).
        calibration: from score to probability, for a model of an event.
    """

    inputs: ModelInputs
    booster: lgb.Booster
    target: str
    target_transform: str
    unit: str
    metric_name: str
    metric_value: float
    metrics: dict[str, float]
    params: dict[str, object]
    window: tuple[datetime, datetime]
    data_fingerprint: str
    importance: pl.DataFrame
    picture: bytes
    tags: dict[str, str]
    examples: npt.NDArray[np.float64]
    calibration: Calibration | None = None

    def golden(self) -> Golden:
        """The examples with what the model makes of them.

        Raises:
            ModelError: there are none, or the transform is unknown.
        """
        if not len(self.examples) or self.target_transform not in BACK_TRANSFORMS:
            raise ModelError(
                "candidate",
                (len(self.examples), self.target_transform),
                f"examples, and a transform of {sorted(BACK_TRANSFORMS)}",
                "give it rows of its test part (golden_rows)",
            )
        scores = np.asarray(self.booster.predict(self.examples, num_threads=1), dtype=np.float64)
        return Golden.of(
            self.examples,
            scores,
            BACK_TRANSFORMS[self.target_transform](scores),
            None if self.calibration is None else self.calibration.probability(scores),
        )


def golden_rows(matrix: npt.NDArray[np.float64], count: int = 32) -> npt.NDArray[np.float64]:
    """Rows to store with a version: `count` spread evenly over a matrix, and one all missing.

    >>> golden_rows(np.arange(10.0).reshape(10, 1), count=3).ravel().tolist()
    [0.0, 4.0, 9.0, nan]
    """
    places = np.unique(np.linspace(0, len(matrix) - 1, min(count, len(matrix))).astype(np.int64))
    return np.vstack([matrix[places], np.full((1, matrix.shape[1]), np.nan)])


def register(settings: Settings, candidate: Candidate) -> int:
    """Log a candidate in an experiment of its name and create a version; returns its number.

    Raises:
        ModelError: the tracking server does not answer or refuses.

    Trap: MLflow keeps its tracking URI per process; this sets it.
    """
    name = candidate.inputs.feature_service
    golden = candidate.golden()
    mlflow.set_tracking_uri(settings.mlflow_url)
    client = mlflow.MlflowClient()
    try:
        experiment_id = _experiment(client, name)
        with mlflow.start_run(
            experiment_id=experiment_id, run_name=f"{name} {candidate.window[1]:%Y-%m-%d %H:%M}"
        ) as run:
            tags = _tags(candidate)
            mlflow.set_tags(tags)
            mlflow.log_params(candidate.params)
            mlflow.log_metrics(candidate.metrics)
            _log_importance(candidate)
            _import_quietly()
            model = mlflow.lightgbm.log_model(
                candidate.booster,
                name=name,
                signature=_signature(candidate.inputs),
                # Named here: MLflow would otherwise load the model in a process to find out.
                pip_requirements=[f"{lib}=={installed(lib)}" for lib in ("lightgbm", "numpy")],
            )
            files = {INPUTS_FILE: candidate.inputs.to_json(), GOLDEN_FILE: golden.to_json()}
            if candidate.calibration is not None:
                files[CALIBRATION_FILE] = candidate.calibration.to_json()
            for file, content in files.items():
                _add_to_model(client, model.model_id, file, content)
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


def reject(settings: Settings, name: str, version: int, reason: str) -> None:
    """Tag a version as rejected, with the reason; whatever serves goes on serving."""
    client = mlflow.MlflowClient(settings.mlflow_url)
    client.set_model_version_tag(name, str(version), "rejected", reason)
    log.info("rejected %s version %s: %s", name, version, reason)


def _tags(candidate: Candidate) -> dict[str, str]:
    start, end = candidate.window
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
        **candidate.tags,
    }


def _import_quietly() -> None:
    # MLflow's own agent types set off its own warning about type hints when first imported.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*type hint is inferred as AnyType", UserWarning)
        import_module("mlflow.pyfunc")


def _signature(inputs: ModelInputs) -> ModelSignature:
    return ModelSignature(
        inputs=Schema([ColSpec("double", name) for name in inputs.columns]),
        outputs=Schema([ColSpec("double")]),
    )


def _experiment(client: mlflow.MlflowClient, name: str) -> str:
    experiment = client.get_experiment_by_name(name)
    return str(experiment.experiment_id if experiment else client.create_experiment(name))


def _log_importance(candidate: Candidate) -> None:
    with tempfile.TemporaryDirectory() as folder:
        candidate.importance.write_csv(Path(folder, "importance.csv"))
        Path(folder, "importance.png").write_bytes(candidate.picture)
        mlflow.log_artifacts(folder)


def _add_to_model(client: mlflow.MlflowClient, model_id: str, name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        client.log_model_artifact(model_id, str(path))
