"""One wide row an event: the features of all entities that the event belongs to."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.contracts.definition import Aggregate, Feature
from feature_repo.contracts.events import EVENT_SCHEMA, TIMESTAMP, EventType
from feature_repo.contracts.feature_set import EntityKey, FeatureSet
from feature_repo.engine.hashing import hash32
from feature_repo.engine.program import Program, compile_program
from feature_repo.engine.projection import is_type, key_texts
from feature_repo.engine.shard import Shard
from feature_repo.stores.stream_history import needed_columns

_Flags = npt.NDArray[np.bool_]
_Places = npt.NDArray[np.int64]
_LABEL = frozenset({EventType.LABEL})
KEY_TYPE = pa.dictionary(pa.int32(), pa.string())
_NEVER_NULL = {Aggregate.COUNT, Aggregate.SUM, Aggregate.DISTINCT_COUNT}
# Of the parts of a key; a dictionary of all of them is written with every batch.
_MOST_COMBINATIONS = 4_096


class FeatureRows:
    """Folds events, in log order, into a shard an entity and lines up their rows.

    Args:
        feature_set: its first entity is the one that every event belongs to.
        half: (which, of how many): rows only of the events whose first entity's key falls into
            this share by its hash; the other entities see all events.

    Trap: an entity's features are null in events that none of them looks at (a page view says
    nothing of payments in a corridor), as live; a spine asks for them at any instant.
    """

    def __init__(self, feature_set: FeatureSet, half: tuple[int, int] = (0, 1)) -> None:
        programs = [compile_program(feature_set, entity) for entity in feature_set.entities]
        self._programs = programs
        self._shards = [Shard(program) for program in programs]
        self._half = half
        self.schema = pa.schema(
            [
                pa.field("event_id", pa.string(), nullable=False),
                *(pa.field(program.entity.join_key, KEY_TYPE) for program in programs),
                pa.field("event_time", TIMESTAMP, nullable=False),
                *(field for program in programs for field in _fields(feature_set, program)),
            ]
        )

    @property
    def columns(self) -> frozenset[str]:
        """The columns of events that are needed."""
        keys = {column for program in self._programs for column in program.entity.columns}
        return needed_columns(self._programs) | keys

    def skip(self, events: pa.RecordBatch) -> None:
        """Take in events whose rows are written already."""
        looked_at_by = self._looked_at(events, self._mine(events))
        for shard, looked_at in zip(self._shards, looked_at_by, strict=True):
            shard.fold(_frame(shard, events, looked_at), rows=False, states=False)

    def fold(self, events: pa.RecordBatch) -> pa.RecordBatch:
        """Take in events; their rows in log order, none for labels and repeated events."""
        found = []
        repeated = np.zeros(len(events), np.bool_)
        judged = np.zeros(len(events), np.bool_)
        mine = self._mine(events)
        for shard, looked_at in zip(self._shards, self._looked_at(events, mine), strict=True):
            folded = shard.fold(_frame(shard, events, looked_at), rows=True, states=False)
            source = folded.source
            if not looked_at.all():
                source = np.flatnonzero(looked_at)[source]
            found.append((folded.rows, source))
            # What the first entity that looks at it gives no row has come before. Later ones do
            # not judge: two customers' events of one id may meet in a corridor.
            without_row = looked_at & ~judged
            without_row[source] = False
            repeated |= without_row
            judged |= looked_at
        emitted = ~repeated & mine & ~is_type(events, _LABEL)
        return self._joined(events, found, None if emitted.all() else np.flatnonzero(emitted))

    def _looked_at(self, events: pa.RecordBatch, mine: _Flags) -> list[_Flags]:
        """Which events each entity's shard takes in."""
        flags = [_looks_at(program, events) for program in self._programs]
        if self._half[1] > 1:
            flags[0] &= mine
        return flags

    def _mine(self, events: pa.RecordBatch) -> _Flags:
        which, count = self._half
        if count == 1:
            return np.ones(len(events), np.bool_)
        keys = _keys(self._programs[0].entity, events)
        of_key = np.append(hash32(keys.dictionary) % np.uint32(count) == which, which == 0)
        # An event without a key is the first share's.
        mine: _Flags = of_key[keys.indices.fill_null(len(keys.dictionary)).to_numpy()]
        return mine

    def _joined(
        self,
        events: pa.RecordBatch,
        found: Sequence[tuple[pa.RecordBatch, _Places]],
        chosen: _Places | None,
    ) -> pa.RecordBatch:
        places = None if chosen is None else pa.array(chosen)

        def of_events(column: pa.Array) -> pa.Array:
            return column if places is None else column.take(places)

        keys = [of_events(_keys(program.entity, events)) for program in self._programs]
        ids, times = events.column("event_id"), events.column("event_time")
        columns = [of_events(ids), *keys, of_events(times)]
        for program, (given, source) in zip(self._programs, found, strict=True):
            features = given.select(program.feature_schema.names)
            columns += _aligned(features, source, len(events), chosen).columns
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)


def _fields(feature_set: FeatureSet, program: Program) -> list[pa.Field]:
    """A program's features; counts and sums have no nulls if every event has a row."""
    never_null = {
        view.output_name(feature)
        for view in feature_set.views_of(program.entity)
        for feature in view.features
        if isinstance(feature, Feature) and feature.aggregate in _NEVER_NULL
    }
    every = frozenset(EventType) - _LABEL
    in_all = program.event_types >= every and not any(
        EVENT_SCHEMA.field(column).nullable for column in program.entity.columns
    )
    return [
        field.with_nullable(not (in_all and field.name in never_null))
        for field in program.feature_schema
    ]


def _keys(entity: EntityKey, events: pa.RecordBatch) -> pa.DictionaryArray:
    """Each event's key. As a dictionary it costs a sixth of what a plain text does to write."""
    parts = [_encoded(events.column(column)) for column in entity.columns]
    if len(parts) == 1:
        return parts[0]
    places = 1
    for part in parts:
        places *= len(part.dictionary)
    if places > _MOST_COMBINATIONS or any(part.null_count for part in parts):
        return _encoded(key_texts(entity, events))
    codes = np.zeros(len(events), np.int32)
    for part in parts:
        codes = codes * np.int32(len(part.dictionary)) + part.indices.to_numpy()
    names = itertools.product(*(part.dictionary.to_pylist() for part in parts))
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(map("-".join, names)))


def _encoded(texts: pa.Array) -> pa.DictionaryArray:
    return texts if texts.type == KEY_TYPE else texts.cast(pa.string()).dictionary_encode()


def _aligned(
    features: pa.RecordBatch, source: _Places, rows: int, chosen: _Places | None
) -> pa.RecordBatch:
    """Features by event: null where an event has none."""
    if chosen is None and len(source) == rows and (source == np.arange(rows)).all():
        return features
    index = np.full(rows, -1)
    index[source] = np.arange(len(source))
    if chosen is not None:
        index = index[chosen]
    return features.take(pa.array(index, mask=index < 0))


def _looks_at(program: Program, events: pa.RecordBatch) -> _Flags:
    """The events that `project` would keep."""
    flags = is_type(events, program.event_types)
    for column in program.entity.columns:
        if events.column(column).null_count:
            flags &= pc.is_valid(events.column(column)).to_numpy(zero_copy_only=False)
    return flags


def _frame(shard: Shard, events: pa.RecordBatch, looked_at: _Flags) -> pa.RecordBatch:
    needed = events.select(shard.program.frame_schema.names)
    return needed if looked_at.all() else needed.filter(pa.array(looked_at))
