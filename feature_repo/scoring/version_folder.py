"""The files of a model version in a folder, as MLflow downloads it; never a pickle."""

from __future__ import annotations

from pathlib import Path

import lightgbm
import yaml

from feature_repo.contracts.errors import ModelError
from feature_repo.contracts.model_files import (
    ANOMALY_FILE,
    ANSWER_FILE,
    CALIBRATION_FILE,
    GOLDEN_FILE,
    INPUTS_FILE,
    NETWORK_FILE,
    TREES_FILE,
    Answer,
    Calibration,
    Golden,
)
from feature_repo.contracts.model_inputs import ModelInputs
from feature_repo.scoring.network import Network
from feature_repo.scoring.one_version import guarded
from feature_repo.scoring.scorers import NeuralScorer, Scorer, Trees

# Where MLflow puts what a model in code is given.
_ARTIFACTS = "artifacts"


class VersionFolder:
    """A version's files.

    Args:
        folder: as downloaded.
        label: what messages call the version.
    """

    def __init__(self, folder: Path, label: str) -> None:
        self._folder, self._label = folder, label

    def inputs(self) -> ModelInputs:
        """What it is fed.

        Raises:
            ModelError: the file is not there, or is none.
        """
        raw = self._read(INPUTS_FILE)
        if raw is None:
            raise ModelError(
                self._label,
                expected=f"an artifact {INPUTS_FILE}",
                action="register it with the retraining flow",
            )
        return ModelInputs.from_json(raw)

    def calibration(self) -> Calibration | None:
        """From score to probability, where it has one."""
        raw = self._read(CALIBRATION_FILE)
        return None if raw is None else Calibration.from_json(raw)

    def answer(self) -> Answer:
        """What it answers beyond one number."""
        raw = self._read(ANSWER_FILE)
        return Answer() if raw is None else Answer.from_json(raw)

    def golden(self) -> Golden | None:
        """The rows that prove it, where it has some."""
        raw = self._read(GOLDEN_FILE)
        return None if raw is None else Golden.from_json(raw)

    def scorer(self) -> Scorer:
        """What scores, fed the embedding version alone that it was trained on.

        Raises:
            ModelError: there is no scorer, or a file is none.
        """
        return guarded(self._scorer(), self.inputs())

    def _scorer(self) -> Scorer:
        network = self._read(f"{_ARTIFACTS}/{NETWORK_FILE}")
        if network is not None:
            return NeuralScorer(Network(network))
        anomaly = self._read(f"{_ARTIFACTS}/{ANOMALY_FILE}")
        return Trees(self._booster(), None if anomaly is None else Network(anomaly))

    def _booster(self) -> lightgbm.Booster:
        """The LightGBM text, wherever MLmodel says it lies."""
        data = self._said_of_trees()
        path = self._folder / data
        if path.suffix not in {".lgb", ".txt"} or not path.is_file():
            raise ModelError(
                self._label, data, f"LightGBM text ({TREES_FILE})", "log a Booster, as text"
            )
        try:
            return lightgbm.Booster(model_file=str(path))
        except lightgbm.basic.LightGBMError as error:
            # Without the folder, which is gone by now and another at each look.
            reason = str(error).replace(str(path), data)
            raise ModelError(self._label, data, "LightGBM text", reason) from error

    def _said_of_trees(self) -> str:
        if (self._folder / _ARTIFACTS / TREES_FILE).is_file():
            return f"{_ARTIFACTS}/{TREES_FILE}"
        if not (self._folder / "MLmodel").exists():
            return TREES_FILE
        flavors = yaml.safe_load((self._folder / "MLmodel").read_text()).get("flavors", {})
        return str(flavors.get("lightgbm", {}).get("data", TREES_FILE))

    def _read(self, name: str) -> bytes | None:
        path = self._folder / name
        return path.read_bytes() if path.is_file() else None
