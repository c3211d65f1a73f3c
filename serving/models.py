"""One served model: a version out of the registry, checked, loaded and ready to score."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt
import yaml

from feature_repo.contracts.errors import ModelError
from feature_repo.contracts.model_inputs import ModelInputs
from serving.catalog import Catalog, UnknownFeatureError
from serving.feature_row import FeatureRow
from serving.online import OnlineReader
from serving.read_plan import ReadPlan

MODEL_INPUTS_FILE = "model_inputs.json"
Vector = npt.NDArray[np.float64]


def _durations(scores: Vector) -> Vector:
    # What was trained on log1p is never negative; a tree may undershoot zero by a little.
    return np.maximum(np.expm1(scores), 0.0)


# Tag `target_transform` of a version -> from the model's scale back to the target's.
_BACK_TRANSFORMS: dict[str, Callable[[Vector], Vector]] = {
    "": lambda scores: scores,
    "log1p": _durations,
}


@dataclass(frozen=True)
class ServedModel:
    """A model version that fits the features served.

    Attributes:
        name: registered name.
        version: version in the registry.
        alias: the alias under which it serves.
        inputs: ordered inputs and their encoding.
        plan: how to read the inputs online.
        tags: the version's tags.
        loaded_at: when it was loaded (UTC).
    """

    name: str
    version: str
    alias: str
    inputs: ModelInputs
    plan: ReadPlan
    tags: dict[str, str]
    loaded_at: datetime
    booster: lightgbm.Booster
    back_transform: Callable[[Vector], Vector]

    @property
    def unit(self) -> str | None:
        """Unit of the prediction, such as `s`."""
        return self.tags.get("unit")

    def score(self, rows: Sequence[FeatureRow]) -> tuple[Vector, Vector]:
        """Scores on the model's scale and predictions in the target's unit: shape (rows,) each."""
        matrix = self.inputs.rows([row.values for row in rows])
        # One thread: requests are short, and threads would fight over the cores.
        scores = np.asarray(self.booster.predict(matrix, num_threads=1), dtype=np.float64)
        return scores, self.back_transform(scores)


class ModelLoader:
    """Loads versions from an MLflow registry.

    Args:
        client: an `mlflow.MlflowClient`.
        reader: knows the features served, and plans how to read a model's.
        alias: the alias whose versions are served.
    """

    def __init__(self, client: Any, reader: OnlineReader, alias: str) -> None:
        self._client = client
        self._reader = reader
        self.alias = alias

    def take_catalog(self, catalog: Catalog) -> bool:
        """Go by this catalogue from now on; whether it differs from the former."""
        changed = catalog != self._reader.catalog
        if changed:
            self._reader.catalog = catalog
        return changed

    def versions(self) -> dict[str, str]:
        """Registered model -> the version that the alias names, where it names one.

        Raises:
            mlflow.exceptions.MlflowException: the registry is away.
        """
        found: dict[str, str] = {}
        token: str | None = None
        while True:
            page = self._client.search_registered_models(max_results=100, page_token=token)
            for model in page:
                if self.alias in model.aliases:
                    found[model.name] = str(model.aliases[self.alias])
            token = page.token
            if not token:
                return found

    def load(self, name: str, version: str, now: datetime) -> ServedModel:
        """Download, check and warm one version.

        Raises:
            ModelError: the version does not fit the features served, or is incomplete.
            mlflow.exceptions.MlflowException: the registry is away.
        """
        tags: dict[str, str] = dict(self._client.get_model_version(name, version).tags)
        with tempfile.TemporaryDirectory(prefix="daima-model-") as scratch:
            folder = self._download(name, version, scratch)
            inputs = _read_inputs(folder, name, version)
            booster = _read_booster(folder, name, version)
        label = f"{name} version {version}"
        self._check_fingerprint(label, inputs, tags)
        if booster.num_feature() != len(inputs.inputs):
            raise ModelError(
                label, booster.num_feature(), f"{len(inputs.inputs)} inputs", "train it again"
            )
        transform = tags.get("target_transform", "")
        if transform not in _BACK_TRANSFORMS:
            raise ModelError(
                "target_transform", transform, f"one of {sorted(_BACK_TRANSFORMS)}", "mend the tag"
            )
        model = ServedModel(
            name=name,
            version=version,
            alias=self.alias,
            inputs=inputs,
            plan=self._reader.plan(item.ref for item in inputs.inputs),
            tags=tags,
            loaded_at=now,
            booster=booster,
            back_transform=_BACK_TRANSFORMS[transform],
        )
        model.score([FeatureRow()])  # warm: the first prediction allocates
        return model

    def _download(self, name: str, version: str, scratch: str) -> Path:
        from mlflow.artifacts import download_artifacts  # noqa: PLC0415  (heavy, at start-up)

        # By location, not by models:/ URI: that one follows a process-wide registry setting.
        uri = self._client.get_model_version_download_uri(name, version)
        return Path(
            download_artifacts(
                artifact_uri=uri, dst_path=scratch, tracking_uri=self._client.tracking_uri
            )
        )

    def _check_fingerprint(self, label: str, inputs: ModelInputs, tags: dict[str, str]) -> None:
        tagged = tags.get("schema_fingerprint")
        if tagged != inputs.fingerprint:
            raise ModelError(
                f"schema_fingerprint of {label}",
                tagged,
                f"{inputs.fingerprint}, which its {MODEL_INPUTS_FILE} has",
                "train it again",
            )
        try:
            offered = self._reader.catalog.service_inputs(inputs.feature_service)
        except UnknownFeatureError as error:
            raise ModelError(label, expected=str(error)) from error
        if offered.fingerprint == inputs.fingerprint:
            return
        has = [f"{item.ref} ({item.dtype})" for item in inputs.inputs]
        offers = [f"{item.ref} ({item.dtype})" for item in offered.inputs]
        raise ModelError(
            label,
            expected=f"the features of Feast service {inputs.feature_service} in their order: it "
            f"lacks {sorted(set(offers) - set(has))}, asks for {sorted(set(has) - set(offers))} "
            "beyond them",
            action="train it again, or feast apply what it was trained on",
        )


def _read_inputs(folder: Path, name: str, version: str) -> ModelInputs:
    try:
        raw = (folder / MODEL_INPUTS_FILE).read_bytes()
    except FileNotFoundError as error:
        raise ModelError(
            f"{name} version {version}", expected=f"an artifact {MODEL_INPUTS_FILE}",
            action="register it with the retraining flow",
        ) from error  # fmt: skip
    return ModelInputs.from_json(raw)


def _read_booster(folder: Path, name: str, version: str) -> lightgbm.Booster:
    """The LightGBM text of a version, wherever its MLmodel says it lies. Never a pickle."""
    data = "model.lgb"
    if (folder / "MLmodel").exists():
        flavors = yaml.safe_load((folder / "MLmodel").read_text()).get("flavors", {})
        data = flavors.get("lightgbm", {}).get("data", data)
    path = folder / data
    if path.suffix not in {".lgb", ".txt"} or not path.is_file():
        raise ModelError(
            f"{name} version {version}", data, "LightGBM text (model.lgb)", "log a Booster, as text"
        )
    try:
        return lightgbm.Booster(model_file=str(path))
    except lightgbm.basic.LightGBMError as error:
        # Without the folder, which is gone by now and another at each look.
        reason = str(error).replace(str(path), data)
        raise ModelError(f"{name} version {version}", data, "LightGBM text", reason) from error
