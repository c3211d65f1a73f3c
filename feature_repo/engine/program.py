"""Compiles the definitions of one entity into the tables that the kernels run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_repo.contracts.columns import COLUMN_DTYPES, sources_of
from feature_repo.contracts.definition import Dtype, Filter
from feature_repo.contracts.events import EVENT_SCHEMA, OUTSIDE_SESSION, TIMESTAMP, EventType
from feature_repo.contracts.feature_set import EntityKey, FeatureSet, Output
from feature_repo.engine.compiler import Compiler, Derivation
from feature_repo.engine.stored import Stored

# Goes into the fingerprint: raise it when states of the same definitions look different.
STATE_FORMAT = 1
_US = timedelta(microseconds=1)

ARROW_TYPES = {
    Dtype.INT64: pa.int64(),
    Dtype.FLOAT64: pa.float64(),
    Dtype.STRING: pa.string(),
    Dtype.BYTES: pa.binary(),
    Dtype.INT64_LIST: pa.list_(pa.int64()),
    Dtype.STRING_LIST: pa.list_(pa.string()),
}


@dataclass(frozen=True)
class Slot:
    """Where the kernels put a feature: `at` is its place among integers, or among floats."""

    name: str
    dtype: Dtype
    text: bool
    at: int
    ok: int  # its place among the flags that say whether there is a value; -1: always
    n: int  # of `last_n`: `at` says how many, the n after it which
    default: float | None


@dataclass(frozen=True)
class Program:
    """One entity's definitions, ready to run. Equal definitions give equal programs.

    The tables are what `opcodes` says; everything else describes inputs and outputs.
    """

    entity: EntityKey
    lateness: timedelta
    outputs: tuple[Output, ...]
    filters: tuple[Filter, ...]
    stored: tuple[Stored, ...]
    slots: tuple[Slot, ...]
    derivations: tuple[Derivation, ...]
    event_types: frozenset[EventType]
    frame_schema: pa.Schema
    row_schema: pa.Schema
    feature_schema: pa.Schema
    fingerprint: str
    passes: npt.NDArray[np.int64]
    atoms: npt.NDArray[np.int64]
    features: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    settled: npt.NDArray[np.int64]
    keeps: npt.NDArray[np.int64]
    constants: npt.NDArray[np.int64]
    integers: int  # integer outputs of a row
    floats: int
    flags: int  # of outputs that may be null
    sets: int  # atoms that count different values

    @property
    def fingerprint_number(self) -> int:
        """The fingerprint as the first word of every state."""
        return int(np.array(int(self.fingerprint, 16), np.uint64).view(np.int64))


def compile_program(feature_set: FeatureSet, entity: EntityKey) -> Program:
    """Compile one entity's views.

    Raises:
        DefinitionError: the views use more different filters and columns than an event has bits.
    """
    compiler = Compiler(feature_set, entity)
    views = feature_set.views_of(entity)
    for view in views:
        for feature in view.features:
            compiler.add(view, feature)
    tables = compiler.finish()
    outputs = feature_set.outputs_of(entity)
    feature_schema = pa.schema([pa.field(o.name, ARROW_TYPES[o.dtype]) for o in outputs])
    row_schema = pa.schema(
        [
            pa.field("event_id", pa.string()),
            pa.field(entity.join_key, pa.string(), nullable=False),
            pa.field("event_timestamp", TIMESTAMP, nullable=False),
            *feature_schema,
        ]
    )
    slots = tuple(Slot(*slot) for slot in compiler.places.slots)
    described = repr((STATE_FORMAT, entity, feature_set.lateness, views))
    return Program(
        entity=entity,
        lateness=feature_set.lateness,
        outputs=outputs,
        filters=tuple(compiler.filters),
        stored=tuple(compiler.stored),
        slots=slots,
        derivations=tuple(compiler.derivations),
        event_types=_relevant(compiler.filters),
        frame_schema=_frame_schema(entity, compiler),
        row_schema=row_schema,
        feature_schema=feature_schema,
        fingerprint=hashlib.sha256(described.encode()).hexdigest()[:16],
        integers=compiler.places.integers,
        floats=compiler.places.floats,
        flags=compiler.places.flags,
        sets=compiler.places.sets,
        **tables,
    )


def _relevant(filters: list[Filter]) -> frozenset[EventType]:
    """The event types that some feature looks at."""
    every = frozenset(EventType) - OUTSIDE_SESSION
    return frozenset().union(*(frozenset(f.event_types) or every for f in filters))


def _frame_schema(entity: EntityKey, compiler: Compiler) -> pa.Schema:
    used = {"event_id", "event_time", "event_type", "label_arrival_time", *entity.columns}
    for column in compiler.used_columns:
        if column in COLUMN_DTYPES:
            used.update(sources_of(column))
    return pa.schema([field for field in EVENT_SCHEMA if field.name in used])
