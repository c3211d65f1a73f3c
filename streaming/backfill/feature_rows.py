"""One wide row an event: the features of all entities that the event belongs to."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_repo.contracts.definition import Aggregate, Feature
from feature_repo.contracts.events import EVENT_SCHEMA, TIMESTAMP, EventType
from feature_repo.contracts.feature_set import EntityKey, FeatureSet
from feature_repo.engine.folded import Folded
from feature_repo.engine.hashing import hash32
from feature_repo.engine.program import Program, compile_program
from feature_repo.engine.projection import is_type, key_column, needed, plain_texts
from feature_repo.engine.shard import Shard
from feature_repo.stores.stream_history import needed_columns

_Places = npt.NDArray[np.int64]
_LABEL = frozenset({EventType.LABEL})
KEY_TYPE = pa.dictionary(pa.int32(), pa.string())
_NUMBERS = {pa.int64(): np.int64, pa.float64(): np.float64}
_NEVER_NULL = {Aggregate.COUNT, Aggregate.SUM, Aggregate.DISTINCT_COUNT}


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
        return needed_columns(shard.program for shard in self._shards)

    def skip(self, events: pa.RecordBatch) -> None:
        """Take in events whose rows are written already."""
        own, _ = self._own(events)
        for shard in self._shards:
            self._fold(shard, events, own, rows=False)

    def fold(self, events: pa.RecordBatch) -> pa.RecordBatch:
        """Take in events; their rows in log order, none for labels and repeated events."""
        own, place = self._own(events)
        columns = [own.column("event_id"), *self._keys(own), own.column("event_time")]
        repeated = np.zeros(len(own), np.bool_)
        judged = np.zeros(len(own), np.bool_)
        for shard in self._shards:
            folded = self._fold(shard, events, own, rows=True)
            source = folded.source
            if place is not None and shard is not self._shards[0]:
                source = place[source]
            features = folded.rows.select(shard.program.feature_schema.names)
            columns += _aligned(features, source, len(own))
            # What the first entity that looks at it gives no row has come before. Later ones do
            # not judge: two customers' events of one id may meet in a corridor.
            looked_at = needed(shard.program, own)
            without_row = ~judged if looked_at is None else looked_at & ~judged
            judged |= without_row
            without_row[source[source >= 0]] = False
            repeated |= without_row
        rows = pa.RecordBatch.from_arrays(columns, schema=self.schema)
        left_out = repeated | is_type(own, _LABEL)
        return rows.filter(pa.array(~left_out)) if left_out.any() else rows

    def _own(self, events: pa.RecordBatch) -> tuple[pa.RecordBatch, _Places | None]:
        """The events of this share, and (n,) where each event stands among them.

        The latter is -1 for those of other shares, and None if there are none.
        """
        which, count = self._half
        if count == 1:
            return events, None
        keys = _key(self._shards[0].program.entity, events)
        of_key = np.append(hash32(keys.dictionary) % np.uint32(count) == which, which == 0)
        # An event without a key is the first share's.
        own = of_key[keys.indices.fill_null(len(keys.dictionary)).to_numpy()]
        return events.filter(pa.array(own)), np.where(own, np.cumsum(own) - 1, -1)

    def _fold(
        self, shard: Shard, events: pa.RecordBatch, own: pa.RecordBatch, *, rows: bool
    ) -> Folded:
        taken = own if shard is self._shards[0] else events
        names = shard.program.frame_schema.names
        return shard.fold(taken.select(names), rows=rows, states=False)

    def _keys(self, events: pa.RecordBatch) -> list[pa.Array]:
        return [_key(shard.program.entity, events) for shard in self._shards]


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


def _key(entity: EntityKey, events: pa.RecordBatch) -> pa.DictionaryArray:
    """Each event's key. As a dictionary it costs a sixth of what a plain text does to write."""
    keys = key_column(entity, events)
    return keys if keys.type == KEY_TYPE else plain_texts(keys).dictionary_encode()


def _aligned(features: pa.RecordBatch, source: _Places, rows: int) -> list[pa.Array]:
    """Features by event: null where an event has none. What stands at -1 is no event's."""
    if len(source) == rows and (source == np.arange(rows)).all():
        return list(features.columns)
    index = np.full(rows + 1, -1)
    index[source] = np.arange(len(source))
    index = index[:rows]
    missing = index < 0
    there = pa.array(~missing).buffers()[1]
    taken = pa.array(index, mask=missing)

    def of_events(column: pa.Array) -> pa.Array:
        if column.null_count or column.type not in _NUMBERS:
            return column.take(taken)
        # A third of the time of taking, and most entities have few events.
        values = np.zeros(rows + 1, _NUMBERS[column.type])
        values[source] = column.to_numpy()
        return pa.Array.from_buffers(column.type, rows, [there, pa.py_buffer(values)])

    return [of_events(column) for column in features.columns]
