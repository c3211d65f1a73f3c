"""What can be read online: feature views and services, as the Feast registry holds them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from feature_repo.contracts.errors import DaimaError, SettingsError
from feature_repo.contracts.feature_set import FeatureSet, load_feature_set
from feature_repo.contracts.features import CUSTOMER
from feature_repo.contracts.model_inputs import ModelInput, ModelInputs
from feature_repo.contracts.outlook import (
    OUTLOOK_FEATURES,
    OUTLOOK_VIEW,
    SCALE_REF,
    SESSION_START_REF,
    SHAPE_REF,
)
from feature_repo.contracts.settings import Settings
from feature_repo.engine.plain import PlainReader
from feature_repo.engine.program import compile_program

log = logging.getLogger(__name__)


class UnknownFeatureError(DaimaError):
    """A request names a feature or a feature service that the registry does not hold."""


@dataclass(frozen=True)
class View:
    """A feature view: its one join key, time to live (None = for ever), name -> Feast dtype.

    `entity` is set for the views of the feature set: they are computed from that entity's state
    when they are read, and never expire. `derived` is one that is computed from other views'
    features (`serving/outlook.py`). The others are stored value by value.
    """

    name: str
    join_key: str
    ttl: timedelta | None
    features: dict[str, str]
    entity: str | None = None
    derived: bool = False


@dataclass(frozen=True)
class Catalog:
    """Feature views and feature services of one Feast project.

    Attributes:
        project: Feast's project, part of every key in the store.
        views: name -> view.
        services: name -> the references `view:feature` that it offers, in order.
        feature_set: the definitions of the stream features.
        readers: entity of the set -> what computes its features; one thread may read with them.
    """

    project: str
    views: dict[str, View]
    services: dict[str, tuple[str, ...]]
    feature_set: FeatureSet
    readers: dict[str, PlainReader] = field(compare=False)  # follow from the set

    def service_inputs(self, service: str) -> ModelInputs:
        """A feature service as model inputs (no categories), for its schema fingerprint.

        Raises:
            UnknownFeatureError: there is no such service.
        """
        refs = self.services.get(service)
        if refs is None:
            raise UnknownFeatureError(
                "feature_service", service, f"one of {sorted(self.services)}", "or run: feast apply"
            )
        return ModelInputs(service, tuple(self._input(ref) for ref in refs))

    def check_refs(self, refs: Iterable[str]) -> None:
        """Refuse references that the registry does not hold.

        Raises:
            UnknownFeatureError: naming the first such reference and what there is instead.
        """
        for ref in refs:
            self._input(ref)

    def _input(self, ref: str) -> ModelInput:
        view_name, _, feature = ref.partition(":")
        view = self.views.get(view_name)
        if view is None:
            raise UnknownFeatureError(
                "features", ref, "view:feature", f"views are {sorted(self.views)}"
            )
        dtype = view.features.get(feature)
        if dtype is None:
            raise UnknownFeatureError(
                "features", ref, "view:feature", f"{view_name} has {sorted(view.features)}"
            )
        return ModelInput(view_name, feature, dtype)


def load_catalog(settings: Settings) -> Catalog:
    """Read the catalogue of the repository's own Feast project (imports Feast: seconds).

    Raises:
        SettingsError: the registry is absent, holds no feature view, or other stream features
            than the definitions.
        DefinitionError: the definitions are wrong.
    """
    from feature_repo.stores.feast_store import open_store  # noqa: PLC0415  (imports Feast)

    apply = "run: cd feature_repo && feast apply (daima up does it)"
    registry = settings.home / "registry.db"
    if not registry.exists():
        raise SettingsError("DAIMA_HOME", str(settings.home), "a folder with registry.db", apply)
    feature_set = load_feature_set(settings.definitions)
    catalog = catalog_of(open_store(settings), feature_set)
    if not catalog.views:
        raise SettingsError("registry.db", str(registry), "at least one feature view", apply)
    return catalog


class CatalogWatch:
    """Reads the catalogue again whenever Feast's registry file has been written."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._seen: tuple[int, int] | None = None

    def reread(self) -> Catalog | None:
        """The catalogue, if the file is another than at the last call; else None.

        Feast does not write it in one stroke: one that cannot be read is read again next time.
        """
        try:
            found = (self._settings.home / "registry.db").stat()
            mark = found.st_mtime_ns, found.st_size
            if mark == self._seen:
                return None
            catalog = load_catalog(self._settings)
        except FileNotFoundError:
            return None
        except Exception as error:  # half a file, or none that Feast understands: keep the former
            log.warning("Feast's registry cannot be read, serving goes on: %s", error)
            return None
        self._seen = mark
        return catalog


def catalog_of(store: Any, feature_set: FeatureSet) -> Catalog:
    """The catalogue of an open `feast.FeatureStore` whose stream features are those of the set.

    Raises:
        SettingsError: the registry holds other stream features than the set.

    Trap: views joined by more than one key are left out; no model here has such an input.
    """
    views = {
        view.name: View(
            name=view.name,
            join_key=view.join_keys[0],
            ttl=view.ttl or None,  # Feast's zero means for ever
            features={field.name: str(field.dtype) for field in view.features},
        )
        for view in store.list_feature_views()
        if view.online and len(view.join_keys) == 1
    }
    views |= _stream_views(store, feature_set)
    views |= _outlook_view(store, views)
    services = {
        service.name: tuple(
            f"{projection.name}:{field.name}"
            for projection in service.feature_view_projections
            for field in projection.features
        )
        for service in store.list_feature_services()
    }
    readers = {
        entity.name: PlainReader(compile_program(feature_set, entity))
        for entity in feature_set.entities
    }
    return Catalog(store.project, views, services, feature_set, readers)


def _outlook_view(store: Any, views: dict[str, View]) -> dict[str, View]:
    """The view of open sessions' outlook, where it and its sources are applied."""
    applied = {view.name for view in store.list_on_demand_feature_views()}
    sources = (SESSION_START_REF, SHAPE_REF, SCALE_REF)
    held = all(
        name in views and feature in views[name].features
        for name, _, feature in (ref.partition(":") for ref in sources)
    )
    if OUTLOOK_VIEW not in applied or not held:
        return {}
    made = View(OUTLOOK_VIEW, CUSTOMER.join_key, None, dict(OUTLOOK_FEATURES), derived=True)
    return {made.name: made}


def _stream_views(store: Any, feature_set: FeatureSet) -> dict[str, View]:
    applied = {
        view.name: {field.name: str(field.dtype) for field in view.features}
        for view in store.list_on_demand_feature_views()
        if view.tags.get("kind") == "stream"
    }
    defined = {
        view.name: View(
            name=view.name,
            join_key=view.entity.join_key,
            ttl=None,
            features={output.name: str(output.dtype) for output in view.outputs},
            entity=view.entity.name,
        )
        for view in feature_set.views
    }
    differing = sorted(
        name
        for name in applied.keys() | defined.keys()
        if name not in defined or applied.get(name) != defined[name].features
    )
    if differing:
        raise SettingsError(
            "Feast's registry",
            differing,
            f"the stream features of the set {feature_set.name}",
            "run: feast apply, with the same DAIMA_DEFINITIONS",
        )
    return defined
