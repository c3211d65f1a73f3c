"""Loading a version: downloaded or off the disk, checked, verified on golden rows, warmed."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import yaml

from feature_repo.contracts.errors import ModelError
from feature_repo.contracts.model_files import (
    ANSWER_FILE,
    CALIBRATION_FILE,
    GOLDEN_FILE,
    Answer,
    Calibration,
    Golden,
)
from feature_repo.contracts.model_inputs import ModelInputs
from feature_repo.contracts.outlook import OUTLOOK_VIEW
from feature_repo.contracts.target_scale import BACK_TRANSFORMS
from serving.assignments import Assignment, assignment_of
from serving.bundles import BundleStore
from serving.catalog import Catalog, UnknownFeatureError
from serving.golden import verify
from serving.models import ServedModel
from serving.online import OnlineReader
from serving.routing import CHALLENGER, SHADOW, Slot

log = logging.getLogger(__name__)

MODEL_INPUTS_FILE = "model_inputs.json"


class ModelLoader:
    """Loads versions from an MLflow registry, and keeps them on disk for when it is away.

    Args:
        client: an `mlflow.MlflowClient`.
        reader: knows the features served, and plans how to read a model's.
        alias: the alias of the champions.
        bundles: where versions are kept; None keeps none.
    """

    def __init__(
        self, client: Any, reader: OnlineReader, alias: str, bundles: BundleStore | None = None
    ) -> None:
        self.client = client
        self._reader = reader
        self.alias = alias
        self.bundles = bundles

    @property
    def aliases(self) -> tuple[str, str, str]:
        """The aliases whose versions are loaded."""
        return self.alias, CHALLENGER, SHADOW

    def take_catalog(self, catalog: Catalog) -> bool:
        """Go by this catalogue from now on; whether it differs from the former."""
        changed = catalog != self._reader.catalog
        if changed:
            self._reader.catalog = catalog
        return changed

    def assignments(self) -> dict[str, Assignment]:
        """Registered model -> what the registry says of it, where an alias names a version.

        Raises:
            mlflow.exceptions.MlflowException: the registry is away.
        """
        found: dict[str, Assignment] = {}
        token: str | None = None
        while True:
            page = self.client.search_registered_models(max_results=100, page_token=token)
            for model in page:
                said = assignment_of(
                    model.creation_timestamp, model.aliases, model.tags, self.aliases
                )
                if said.versions:
                    found[model.name] = said
            token = page.token
            if not token:
                return found

    def load(self, slot: Slot, version: str, now: datetime) -> ServedModel:
        """Fetch, check, verify and warm a version that an alias names.

        Raises:
            ModelError: the version does not fit the features served, is incomplete, or makes
                something else of its golden rows than it should.
            mlflow.exceptions.MlflowException: the registry is away.
        """
        told = self.client.get_model_version(slot.name, version)
        tags: dict[str, str] = dict(told.tags)
        created_ms = int(told.creation_timestamp or 0)
        kept = self.bundles.find(slot.name, version) if self.bundles else None
        if kept is not None and self.bundles is not None and kept.created_ms == created_ms:
            model = self._open(kept.folder, slot, version, tags, now)
            self.bundles.retag(kept, tags)
            return model
        with tempfile.TemporaryDirectory(prefix="daima-model-") as scratch:
            folder = self._download(slot.name, version, scratch)
            model = self._open(folder, slot, version, tags, now)
            if self.bundles is not None:
                try:
                    self.bundles.keep(slot.name, version, created_ms, tags, folder)
                except OSError as error:  # a full disk is no reason not to serve
                    log.warning("%s version %s cannot be kept: %s", slot.name, version, error)
        return model

    def restore(self, slot: Slot, version: str, now: datetime) -> ServedModel:
        """The same from disk alone.

        Raises:
            ModelError: it is not kept, or no longer fits.
        """
        kept = self.bundles.find(slot.name, version) if self.bundles else None
        if kept is None:
            raise ModelError(
                f"{slot.name} version {version}",
                expected="a copy on local disk while the registry does not answer",
                action="start the registry",
            )
        return self._open(kept.folder, slot, version, kept.tags, now)

    def _open(
        self, folder: Path, slot: Slot, version: str, tags: Mapping[str, str], now: datetime
    ) -> ServedModel:
        label = f"{slot.name} version {version}"
        inputs = _read_inputs(folder, label)
        booster = _read_booster(folder, label)
        self._check_fingerprint(label, inputs, tags)
        derived = [item.ref for item in inputs.inputs if item.view == OUTLOOK_VIEW]
        if derived:
            raise ModelError(
                label, derived, "inputs that are read or computed from one state", "train without"
            )
        if booster.num_feature() != inputs.width:
            raise ModelError(
                label, booster.num_feature(), f"{inputs.width} columns", "train it again"
            )
        answer_raw = _optional(folder / ANSWER_FILE)
        answer = Answer() if answer_raw is None else Answer.from_json(answer_raw)
        wanted = max(len(answer.classes), 1)
        if booster.num_model_per_iteration() != wanted:
            raise ModelError(
                label,
                booster.num_model_per_iteration(),
                f"{wanted} scores a row, one a class of its {ANSWER_FILE}"
                if answer.classes
                else "one score a row",
                f"register it with its classes in {ANSWER_FILE}, or train a model of one number",
            )
        transform = tags.get("target_transform", "")
        if transform not in BACK_TRANSFORMS:
            raise ModelError(
                "target_transform", transform, f"one of {sorted(BACK_TRANSFORMS)}", "mend the tag"
            )
        calibration = _optional(folder / CALIBRATION_FILE)
        golden_raw = _optional(folder / GOLDEN_FILE)
        golden = None if golden_raw is None else Golden.from_json(golden_raw)
        model = ServedModel(
            name=slot.name,
            version=version,
            alias=slot.alias,
            inputs=inputs,
            plan=self._reader.plan(item.ref for item in inputs.stored.inputs),
            tags=dict(tags),
            loaded_at=now,
            booster=booster,
            back_transform=BACK_TRANSFORMS[transform],
            calibration=None if calibration is None else Calibration.from_json(calibration),
            golden_rows=0 if golden is None else len(golden.rows),
            answer=answer,
        )
        if golden is None:
            log.warning("%s has no %s: it serves unverified", label, GOLDEN_FILE)
        else:
            verify(model, golden)
        for rows in (1, 100):  # warm: the first prediction of each kind allocates
            model.score(np.full((rows, inputs.width), np.nan))
        return model

    def _download(self, name: str, version: str, scratch: str) -> Path:
        from mlflow.artifacts import download_artifacts  # noqa: PLC0415  (heavy, at start-up)

        # By location, not by models:/ URI: that one follows a process-wide registry setting.
        uri = self.client.get_model_version_download_uri(name, version)
        return Path(
            download_artifacts(
                artifact_uri=uri, dst_path=scratch, tracking_uri=self.client.tracking_uri
            )
        )

    def _check_fingerprint(self, label: str, inputs: ModelInputs, tags: Mapping[str, str]) -> None:
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
        stored = inputs.stored  # what the request brings is no business of Feast's
        if offered.fingerprint == stored.fingerprint:
            return
        has = [f"{item.ref} ({item.dtype})" for item in stored.inputs]
        offers = [f"{item.ref} ({item.dtype})" for item in offered.inputs]
        raise ModelError(
            label,
            expected=f"the features of Feast service {inputs.feature_service} in their order: it "
            f"lacks {sorted(set(offers) - set(has))}, asks for {sorted(set(has) - set(offers))} "
            "beyond them",
            action="train it again, or feast apply what it was trained on",
        )


def _optional(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _read_inputs(folder: Path, label: str) -> ModelInputs:
    raw = _optional(folder / MODEL_INPUTS_FILE)
    if raw is None:
        raise ModelError(
            label,
            expected=f"an artifact {MODEL_INPUTS_FILE}",
            action="register it with the retraining flow",
        )
    return ModelInputs.from_json(raw)


def _read_booster(folder: Path, label: str) -> lightgbm.Booster:
    """The LightGBM text of a version, wherever its MLmodel says it lies. Never a pickle."""
    data = "model.lgb"
    if (folder / "MLmodel").exists():
        flavors = yaml.safe_load((folder / "MLmodel").read_text()).get("flavors", {})
        data = flavors.get("lightgbm", {}).get("data", data)
    path = folder / data
    if path.suffix not in {".lgb", ".txt"} or not path.is_file():
        raise ModelError(label, data, "LightGBM text (model.lgb)", "log a Booster, as text")
    try:
        return lightgbm.Booster(model_file=str(path))
    except lightgbm.basic.LightGBMError as error:
        # Without the folder, which is gone by now and another at each look.
        reason = str(error).replace(str(path), data)
        raise ModelError(label, data, "LightGBM text", reason) from error
