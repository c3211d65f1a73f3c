"""The version that serves now, loaded from the registry to be compared with."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from feature_repo.contracts.credentials import first_line, without_credentials
from feature_repo.contracts.errors import DaimaError, ModelError
from feature_repo.contracts.model_inputs import ModelInputs
from feature_repo.contracts.settings import Settings
from feature_repo.scoring.one_version import OneVersion
from feature_repo.scoring.outputs import Outputs, Scored
from feature_repo.scoring.scorers import Scorer
from feature_repo.scoring.version_folder import VersionFolder
from training.evaluation.metrics import Floats

if TYPE_CHECKING:
    import polars as pl

    from training.judging import Trained

log = logging.getLogger(__name__)

ALIAS = "champion"


@dataclass(frozen=True)
class Champion:
    """A registered version, able to predict on a data set's frame.

    Attributes:
        name, version: in the registry.
        tags: the version's.
        inputs: what it is fed.
        scorer: the trees or the network.
        outputs: how its scores are read.
    """

    name: str
    version: int
    tags: dict[str, str]
    inputs: ModelInputs
    scorer: Scorer
    outputs: Outputs

    def fed(self, frame: pl.DataFrame) -> Floats:
        """What it is fed of a data set's rows: vectors of another embedding version are missing."""
        matrix, guard = self.inputs.matrix(frame), OneVersion.of(self.inputs)
        return matrix if guard is None else guard.fed(matrix)

    def predict(self, frame: pl.DataFrame) -> Floats:
        """Predictions on the scale on which models of this name are judged: shape (rows,) or
        (rows, classes).
        """
        matrix = self.inputs.matrix(frame)
        scores, _ = self.scorer.score(matrix)
        return self.outputs.judged(scores, matrix)

    def scored(self, frame: pl.DataFrame) -> Scored:
        """What it answers of a data set's rows."""
        matrix = self.inputs.matrix(frame)
        scores, anomalies = self.scorer.score(matrix)
        return self.outputs.of(scores, matrix, anomalies)

    def can_judge(self, trained: Trained) -> bool:
        """Whether it predicts the same target, from features that the frame has."""
        ours = trained.candidate
        wanted = {"target": ours.target, "target_transform": ours.target_transform}
        differs = {tag: self.tags.get(tag) for tag in wanted if self.tags.get(tag) != wanted[tag]}
        absent = set(self.inputs.names) - set(trained.held_out.frame.columns)
        if differs or absent:
            log.warning(
                "champion version %s of %s cannot be compared with (%s): the baseline judges",
                self.version,
                self.name,
                ", ".join([*(f"{tag} {value}" for tag, value in differs.items()), *sorted(absent)]),
            )
        return not differs and not absent


def champion_tags(settings: Settings, name: str) -> dict[str, str] | None:
    """What the champion's version says of itself; None where there is no champion.

    Raises:
        ModelError: the registry does not answer.
    """
    version = champion_version(settings, name)
    return None if version is None else dict(version.tags)


def load_champion(settings: Settings, name: str) -> Champion | None:
    """The champion of a model; None where there is none yet.

    Raises:
        ModelError: the registry does not answer, or the champion's files cannot be read.
    """
    version = champion_version(settings, name)
    if version is None:
        return None
    label = f"{name} version {version.version}"
    try:
        with tempfile.TemporaryDirectory() as scratch:
            folder = mlflow.artifacts.download_artifacts(
                f"models:/{name}/{version.version}", dst_path=scratch
            )
            files = VersionFolder(Path(folder), label)
            inputs = files.inputs()
            return Champion(
                name=name,
                version=int(version.version),
                tags=dict(version.tags),
                inputs=inputs,
                scorer=files.scorer(),
                outputs=Outputs.named(
                    inputs.columns,
                    version.tags.get("target_transform", ""),
                    files.calibration(),
                    files.answer(),
                ),
            )
    except DaimaError:
        raise
    except Exception as error:
        raise _unreadable(settings, label, error) from error


def champion_version(settings: Settings, name: str) -> ModelVersion | None:
    """The version that bears the alias; None where there is none.

    Raises:
        ModelError: the registry does not answer.
    """
    mlflow.set_tracking_uri(settings.mlflow_url)
    try:
        return mlflow.MlflowClient().get_model_version_by_alias(name, ALIAS)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise _unreadable(settings, name, error) from error


def _unreadable(settings: Settings, what: str, error: Exception) -> ModelError:
    return ModelError(
        what,
        without_credentials(settings.mlflow_url),
        "a champion that can be loaded",
        f"start the registry (make up), or move the alias (daima promote): {first_line(error)}",
    )
