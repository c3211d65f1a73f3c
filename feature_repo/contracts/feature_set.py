"""A set of stream features: views of entities, checked when it is made, loadable from a module."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import ModuleType

from feature_repo.contracts.columns import COLUMN_DTYPES
from feature_repo.contracts.definition import Derived, Dtype, Feature, Session
from feature_repo.contracts.definition_checks import check_derived, check_feature
from feature_repo.contracts.definition_types import describe, dtype_of
from feature_repo.contracts.errors import DefinitionError


@dataclass(frozen=True)
class EntityKey:
    """Whose features they are.

    Attributes:
        name: the Feast entity, such as `corridor`.
        columns: the event's columns that make up the key, joined by `-`; an event in which one is
            null does not belong to any key.
        join_key: the key's column in Feast and in files; the column itself if there is only one.
        hop: None keeps every event, and features are exact. For keys with millions of events in a
            window, the width of the tiles that events are summed into: a sliding window then
            reaches back up to one hop further than its length, never less, and is exact at its
            newer end.
    """

    name: str
    columns: tuple[str, ...]
    join_key: str
    hop: timedelta | None = None


@dataclass(frozen=True)
class Output:
    """A feature as it is stored and served."""

    name: str
    dtype: Dtype
    description: str


@dataclass(frozen=True)
class View:
    """A named group of one entity's features: a Feast feature view.

    `prefix` goes before every feature's name; it keeps names of different entities apart.
    """

    name: str
    entity: EntityKey
    features: tuple[Feature | Derived, ...]
    prefix: str = ""
    description: str = ""

    def output_name(self, feature: Feature | Derived) -> str:
        """The name under which the feature is stored and served."""
        return self.prefix + feature.name

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The view's features as Feast sees them, in order."""
        return tuple(
            Output(self.output_name(feature), dtype_of(feature), describe(feature))
            for feature in self.features
        )


@dataclass(frozen=True)
class FeatureSet:
    """All stream features that are computed together.

    Attributes:
        name: names the set, in files and errors.
        views: the views; those of one entity share one state.
        lateness: how much older than the newest event of its log partition an event may be; older
            ones are dead letters. State grows with it.

    Raises:
        DefinitionError: a definition is wrong, with its name and the reason.
    """

    name: str
    views: tuple[View, ...]
    lateness: timedelta = timedelta(hours=1)

    def __post_init__(self) -> None:
        if self.lateness < timedelta(0):
            raise DefinitionError("lateness", str(self.lateness), "0 or more", "make it positive")
        if not self.views:
            raise DefinitionError(self.name, "no views", "at least one view", "add a View")
        self._check_names()
        for entity in self.entities:
            self._check_entity(entity)
        for view in self.views:
            for feature in view.features:
                if isinstance(feature, Derived):
                    check_derived(view.name, feature, view.features)
                else:
                    check_feature(view.name, feature, view.entity.hop)

    @property
    def entities(self) -> tuple[EntityKey, ...]:
        """The set's entities, in the order in which views name them."""
        return tuple(dict.fromkeys(view.entity for view in self.views))

    def entity(self, name: str) -> EntityKey:
        """The entity of a name.

        Raises:
            DefinitionError: the set has no such entity.
        """
        for entity in self.entities:
            if entity.name == name:
                return entity
        known = ", ".join(entity.name for entity in self.entities)
        raise DefinitionError("entity", name, f"one of: {known}", "choose one of the set's")

    def views_of(self, entity: EntityKey) -> tuple[View, ...]:
        """An entity's views."""
        return tuple(view for view in self.views if view.entity == entity)

    def outputs_of(self, entity: EntityKey) -> tuple[Output, ...]:
        """An entity's features, view by view."""
        return tuple(output for view in self.views_of(entity) for output in view.outputs)

    def _check_names(self) -> None:
        _refuse_repeats("entity", (entity.name for entity in self.entities))
        _refuse_repeats("join key", (entity.join_key for entity in self.entities))
        _refuse_repeats("view", (view.name for view in self.views))
        _refuse_repeats(
            "feature",
            (view.output_name(feature) for view in self.views for feature in view.features),
        )

    def _check_entity(self, entity: EntityKey) -> None:
        for column in entity.columns:
            if COLUMN_DTYPES.get(column) is not Dtype.STRING:
                raise DefinitionError(
                    f"key of {entity.name}", column, "a text column of the event", "correct it"
                )
        if not entity.columns:
            raise DefinitionError(f"key of {entity.name}", (), "at least one column", "name it")
        if entity.hop is not None and entity.hop <= timedelta(0):
            raise DefinitionError(
                f"hop of {entity.name}", str(entity.hop), "a positive duration", "correct it"
            )
        gaps = {
            feature.window.gap
            for view in self.views_of(entity)
            for feature in view.features
            if isinstance(feature, Feature) and isinstance(feature.window, Session)
        }
        if len(gaps) > 1:
            raise DefinitionError(
                f"session gaps of {entity.name}",
                ", ".join(sorted(map(str, gaps))),
                "one gap an entity",
                "use one gap, or another entity of the same columns",
            )


def _refuse_repeats(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DefinitionError(
                what, name, "different names", "remove one of the two, or give its view a prefix"
            )
        seen.add(name)


def load_feature_set(module: Path | None = None) -> FeatureSet:
    """The feature set of a module of definitions, by its `FEATURE_SET`; None: the default one.

    Raises:
        DefinitionError: the file is missing, does not run, defines no `FEATURE_SET`, or a
            definition in it is wrong.
    """
    if module is None:
        from feature_repo.contracts.features import FEATURE_SET  # noqa: PLC0415 - it imports this

        return FEATURE_SET
    found = getattr(_run(module), "FEATURE_SET", None)
    if not isinstance(found, FeatureSet):
        raise DefinitionError(
            "definitions", str(module), "a module with FEATURE_SET = FeatureSet(...)", "define it"
        )
    return found


def _run(module: Path) -> ModuleType:
    if not module.is_file():
        raise DefinitionError("definitions", str(module), "a Python file", "check the path")
    spec = importlib.util.spec_from_file_location(f"daima_definitions_{module.stem}", module)
    if spec is None or spec.loader is None:
        raise DefinitionError("definitions", str(module), "a Python file (.py)", "rename it")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded  # dataclasses look their module up
    try:
        spec.loader.exec_module(loaded)
    except DefinitionError:
        raise
    except Exception as error:
        raise DefinitionError(
            "definitions", str(module), "a module that runs", f"correct it: {error!r}"
        ) from error
    return loaded
