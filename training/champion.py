"""The version that serves now, loaded from the registry to be compared with."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import lightgbm as lgb
import mlflow
import numpy as np
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from feature_repo.contracts.credentials import first_line, without_credentials
from feature_repo.contracts.errors import DaimaError, ModelError
from feature_repo.contracts.model_files import ANSWER_FILE, CALIBRATION_FILE, Answer, Calibration
from feature_repo.contracts.model_inputs import ModelInputs
from feature_repo.contracts.settings import Settings
from training.evaluation.metrics import Floats
from training.model_files import INPUTS_FILE, file_of

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
        booster: the trees.
        calibration: from score to probability, where it has one.
        answer: what it answers beyond one number.
    """

    name: str
    version: int
    tags: dict[str, str]
    inputs: ModelInputs
    booster: lgb.Booster
    calibration: Calibration | None = None
    answer: Answer | None = None

    def predict(self, frame: pl.DataFrame) -> Floats:
        """Predictions on the scale on which models of this name are judged: shape (rows,) or
        (rows, classes).
        """
        matrix = self.inputs.matrix(frame)
        found = np.asarray(self.booster.predict(matrix), dtype=np.float64)
        if self.answer is not None:
            found = self.answer.exposed(found, matrix, self.inputs.columns)
        return found if self.calibration is None else self.calibration.probability(found)

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
    version = _version(settings, name)
    return None if version is None else dict(version.tags)


def load_champion(settings: Settings, name: str) -> Champion | None:
    """The champion of a model; None where there is none yet.

    Raises:
        ModelError: the registry does not answer, or the champion's files cannot be read.
    """
    version = _version(settings, name)
    if version is None:
        return None
    try:
        uri = f"models:/{name}/{version.version}"
        calibration = file_of(uri, CALIBRATION_FILE)
        answer = file_of(uri, ANSWER_FILE)
        inputs = file_of(uri, INPUTS_FILE)
        if inputs is None:
            raise ModelError(INPUTS_FILE, uri, "a file beside the model", "register it again")
        return Champion(
            name=name,
            version=int(version.version),
            tags=dict(version.tags),
            inputs=ModelInputs.from_json(inputs),
            booster=mlflow.lightgbm.load_model(uri),
            calibration=None if calibration is None else Calibration.from_json(calibration),
            answer=None if answer is None else Answer.from_json(answer),
        )
    except DaimaError:
        raise
    except Exception as error:
        raise _unreadable(settings, f"{name} version {version.version}", error) from error


def _version(settings: Settings, name: str) -> ModelVersion | None:
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
