"""The part of a historical request that asks for stream features, answered from the events.

Feast would hand the on-demand views the states of the past, which nobody stores. Here their
columns come from the archive of events, by the kernel that computes them live, as of each entity
row's own instant: right after any silence, which a join of rows at events is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
from feast import FeatureView
from feast.on_demand_feature_view import OnDemandFeatureView

from feature_repo.contracts.errors import DatasetError, InputError
from feature_repo.contracts.feature_set import EntityKey, FeatureSet, load_feature_set
from feature_repo.contracts.states import AS_OF_FIELD, state_view
from feature_repo.engine.program import compile_program
from feature_repo.stores.event_history import read_in_log_order
from feature_repo.stores.stream_history import Spine, features_at, needed_columns


@dataclass(frozen=True)
class StreamColumns:
    """What is asked of the feature set's views.

    Attributes:
        events: the archive.
        names: each column's name in the result -> the feature's.
        keys: entity name -> the entity rows' column with its keys.
    """

    events: Path
    feature_set: FeatureSet
    names: Mapping[str, str]
    keys: Mapping[str, str]

    def read(self, entities: pl.DataFrame, time_column: str) -> list[pl.Series]:
        """The columns, in the entity rows' order.

        Raises:
            DatasetError: `as_of_us` is another instant than the row's, a key column is absent, or
                there are no events.
        """
        _check_as_of(entities, time_column)
        missing = sorted(set(self.keys.values()) - set(entities.columns))
        if missing:
            raise DatasetError("entity rows", entities.columns, f"also {missing}", "add the keys")
        chosen = [self.feature_set.entity(name) for name in self.keys]
        rows = entities.select(
            time_column, *(pl.col(self.keys[key.name]).alias(key.join_key) for key in chosen)
        )
        spine = Spine.of(self.feature_set, rows.to_arrow(), time_column)
        programs = [compile_program(self.feature_set, key) for key in chosen]
        latest = rows[time_column].dt.epoch("us").max()
        try:
            events = read_in_log_order(
                self.events,
                needed_columns(programs),
                until_us=latest if isinstance(latest, int) else None,
            )
            answers = features_at(programs, events, spine)
        except InputError as error:
            raise DatasetError(
                "stream features",
                str(self.events),
                "the events that were streamed",
                f"stream events first (daima stream, daima replay), then retry: {error}",
            ) from error
        return [
            pl.Series(name, _plain(answers.column(feature))) for name, feature in self.names.items()
        ]


def take_stream_views(
    views: Sequence[FeatureView],
    demanded: Sequence[OnDemandFeatureView],
    refs: Sequence[str],
    *,
    events: Path,
    definitions: Path | None,
    full_names: bool,
    without_states: bool = False,
) -> tuple[list[FeatureView], list[OnDemandFeatureView], StreamColumns | None]:
    """Split a request: the views to join, the on-demand views for Feast, and what is ours.

    `without_states`: states among the views are somebody else's sources, not asked for.

    Raises:
        DatasetError: a state is asked for; no store has those of the past.
    """
    feature_set = load_feature_set(definitions)
    entity_of = {view.name: view.entity for view in feature_set.views}
    states = {state_view(entity.name): entity for entity in feature_set.entities}
    ours = [view for view in demanded if view.name in entity_of]
    ordinary = [view for view in views if view.name not in states]
    served = {entity_of[view.name] for view in ours}
    for view in views:
        if view.name in states and states[view.name] not in served and not without_states:
            raise DatasetError(
                view.name,
                expected="views of features: the states of the past are not stored",
                action=f"ask for {', '.join(entity_of)}",
            )
    names: dict[str, str] = {}
    for view in ours:
        label = view.projection.name_to_use()
        for ref in refs:
            asked_of, _, feature = ref.partition(":")
            if asked_of == label:
                names[f"{label}__{feature}" if full_names else feature] = feature
    others = [view for view in demanded if view.name not in entity_of]
    if not ours:
        return ordinary, others, None
    keys = {entity.name: _key_column(entity, views) for entity in feature_set.entities}
    keys = {name: column for name, column in keys.items() if feature_set.entity(name) in served}
    return ordinary, others, StreamColumns(events, feature_set, names, keys)


def _key_column(entity: EntityKey, views: Sequence[FeatureView]) -> str:
    for view in views:
        if view.name == state_view(entity.name):
            return str((view.projection.join_key_map or {}).get(entity.join_key, entity.join_key))
    return entity.join_key


def _check_as_of(entities: pl.DataFrame, time_column: str) -> None:
    if AS_OF_FIELD not in entities.columns:
        return
    asked = entities[AS_OF_FIELD].cast(pl.Int64)
    wrong = entities.filter((asked != entities[time_column].dt.epoch("us")).fill_null(True))
    if len(wrong):
        raise DatasetError(
            AS_OF_FIELD,
            wrong[AS_OF_FIELD][0],
            f"the row's own {time_column} in µs since 1970 "
            f"({wrong[time_column].dt.epoch('us')[0]})",
            f"set it from {time_column}; {len(wrong)} rows differ",
        )


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
