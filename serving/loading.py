"""Loading a version: downloaded or off the disk, checked, verified on golden rows, warmed."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from feature_repo.contracts.errors import ModelError
from feature_repo.contracts.model_files import (
    ANSWER_FILE,
    ENCODER_KIND,
    GOLDEN_FILE,
    INPUTS_FILE,
    KIND_TAG,
)
from feature_repo.contracts.model_inputs import LEFT_OUT_VIEWS, ModelInputs
from feature_repo.contracts.outlook import OUTLOOK_VIEW
from feature_repo.scoring.one_version import OneVersion
from feature_repo.scoring.outputs import Outputs
from feature_repo.scoring.version_folder import VersionFolder
from serving.assignments import Assignment, assignment_of
from serving.bundles import BundleStore
from serving.catalog import Catalog, UnknownFeatureError
from serving.golden import verify
from serving.models import ServedModel
from serving.online import OnlineReader
from serving.routing import CHALLENGER, SHADOW, Slot

log = logging.getLogger(__name__)


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
                if model.tags.get(KIND_TAG) == ENCODER_KIND:
                    continue
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
        files = VersionFolder(folder, label)
        inputs, scorer = files.inputs(), files.scorer()
        self._check_fingerprint(label, inputs, tags)
        derived = [item.ref for item in inputs.inputs if item.view == OUTLOOK_VIEW]
        if derived:
            raise ModelError(
                label, derived, "inputs that are read or computed from one state", "train without"
            )
        vectors = [item.ref for item in inputs.inputs if item.view in LEFT_OUT_VIEWS]
        if vectors and inputs.embedding_version is None:
            raise ModelError(
                label, vectors, f"vectors of one version, which its {INPUTS_FILE} names",
                "train it again",
            )  # fmt: skip
        if scorer.width != inputs.width:
            raise ModelError(label, scorer.width, f"{inputs.width} columns", "train it again")
        answer, golden = files.answer(), files.golden()
        wanted = max(len(answer.classes), 1)
        if scorer.classes != wanted:
            raise ModelError(
                label,
                scorer.classes,
                f"{wanted} scores a row, one a class of its {ANSWER_FILE}"
                if answer.classes
                else "one score a row",
                f"register it with its classes in {ANSWER_FILE}, or train a model of one number",
            )
        model = ServedModel(
            name=slot.name,
            version=version,
            alias=slot.alias,
            inputs=inputs,
            plan=self._reader.plan(item.ref for item in inputs.stored.inputs),
            tags=dict(tags),
            loaded_at=now,
            scorer=scorer,
            outputs=Outputs.named(
                inputs.columns, tags.get("target_transform", ""), files.calibration(), answer
            ),
            golden_rows=0 if golden is None else len(golden.rows),
            guard=OneVersion.of(inputs),
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
                f"{inputs.fingerprint}, which its {INPUTS_FILE} has",
                "train it again",
            )
        try:
            offered = self._reader.catalog.service_inputs(inputs.feature_service)
        except UnknownFeatureError as error:
            raise ModelError(label, expected=str(error)) from error
        stored = inputs.stored  # what the request brings is no business of Feast's
        # Trained where there was no embedding, it serves without; nothing of one is read for it.
        without = offered.without(LEFT_OUT_VIEWS)
        if stored.fingerprint in {offered.fingerprint, without.fingerprint}:
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
