"""Which columns are kept with a key's events, and for how long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from feature_repo.contracts.columns import COLUMN_DTYPES
from feature_repo.contracts.definition import (
    Aggregate,
    Dtype,
    Feature,
    Filter,
    Lifetime,
    Session,
    Sliding,
)
from feature_repo.engine import opcodes as op

_US = timedelta(microseconds=1)
_TEXTS_A_WORD = 3


@dataclass
class Stored:
    """A column whose values are kept with the events.

    `kind`: int, float, hash (of a text, to tell values apart), texts (codes of up to three text
    columns in one word), known (when a label became known), ordinal (which event it was).
    `sources`: the event's columns. `filters`: values are kept of events that pass one of them, the
    filters of the features that use the column; none means of every event.
    """

    kind: str
    sources: tuple[str, ...]
    filters: tuple[Filter, ...] = ()
    merge: int = op.MERGE_ADD_I
    reach_us: int = -1
    back: int = -1


def store_columns(features: Sequence[Feature]) -> list[Stored]:
    """One stored column a column, whatever filters it is used with; texts share words."""
    texts: dict[str, list[Feature]] = {}
    plain: dict[str, list[Feature]] = {}
    for feature in features:
        if feature.column is not None:
            is_text = COLUMN_DTYPES[feature.column] is Dtype.STRING
            given = feature.aggregate in (Aggregate.FIRST, Aggregate.LAST, Aggregate.LAST_N)
            (texts if is_text and given else plain).setdefault(feature.column, [])
    for feature in features:
        if feature.column is not None:
            (texts if feature.column in texts else plain)[feature.column].append(feature)
    for column in list(plain):
        if column in texts:
            del plain[column]
    stored = []
    for column, users in plain.items():
        dtype = COLUMN_DTYPES[column]
        kind = {Dtype.STRING: "hash", Dtype.FLOAT64: "float"}.get(dtype, "int")
        stored.append(Stored(kind, (column,), _filters(users), 0, *_kept(users)))
    # Columns that are kept equally long share a word, so that none is kept for another's sake.
    by_kept = sorted(texts, key=lambda column: (_kept(texts[column]), column))
    for start in range(0, len(by_kept), _TEXTS_A_WORD):
        group = by_kept[start : start + _TEXTS_A_WORD]
        together = [feature for column in group for feature in texts[column]]
        stored.append(Stored("texts", tuple(group), _filters(together), 0, *_kept(together)))
    return stored


def _filters(features: Sequence[Feature]) -> tuple[Filter, ...]:
    return tuple(dict.fromkeys(feature.events for feature in features))


def store_tiles(features: Sequence[Feature]) -> list[Stored]:
    """One stored column an aggregate, column and filter: tiles keep sums, not events."""
    kept: list[Stored] = []
    for feature in features:
        for aggregate in tile_parts(feature.aggregate):
            stored = tile_column(feature, aggregate)
            known = [s for s in kept if same_tile(s, stored)]
            if known:
                known[0].reach_us = max(known[0].reach_us, stored.reach_us)
            else:
                kept.append(stored)
    return kept


def tile_column(feature: Feature, aggregate: Aggregate) -> Stored:
    """The column of tiles that an aggregate of a feature is read off."""
    is_float = COLUMN_DTYPES.get(feature.column or "") is Dtype.FLOAT64
    counted = aggregate is Aggregate.COUNT or feature.column is None
    kind = "one" if counted else "float" if is_float else "int"
    merge = {
        Aggregate.MIN: op.MERGE_MIN_F if is_float else op.MERGE_MIN_I,
        Aggregate.MAX: op.MERGE_MAX_F if is_float else op.MERGE_MAX_I,
        Aggregate.SUM: op.MERGE_ADD_F if is_float else op.MERGE_ADD_I,
        Aggregate.COUNT: op.MERGE_ADD_I,
    }[aggregate]
    sources = (feature.column,) if feature.column else ()
    return Stored(kind, sources, (feature.events,), merge, reach_us(feature), -1)


def tile_parts(aggregate: Aggregate) -> tuple[Aggregate, ...]:
    """The aggregates that tiles keep for one that is asked for."""
    if aggregate is Aggregate.MEAN:
        return (Aggregate.SUM, Aggregate.COUNT)
    return (Aggregate.SUM,) if aggregate is Aggregate.RATE else (aggregate,)


def same_tile(one: Stored, other: Stored) -> bool:
    """Whether two columns of tiles hold the same, however long."""
    return (one.kind, one.sources, one.filters, one.merge) == (
        other.kind,
        other.sources,
        other.filters,
        other.merge,
    )


def place_of(stored: Sequence[Stored], column: str) -> tuple[int, int]:
    """Which stored column holds a column, and its shift in a word of texts (-1: a whole word)."""
    for at, candidate in enumerate(stored):
        if column in candidate.sources:
            if candidate.kind != "texts":
                return at, -1
            return at, op.TEXT_BITS * candidate.sources.index(column)
    raise KeyError(column)


def reach_us(feature: Feature) -> int:
    """How far back a feature looks from the instant of reading; a session's is found by its gap."""
    delay = feature.label_delay // _US
    return delay + feature.window.length // _US if isinstance(feature.window, Sliding) else delay


def _kept(features: list[Feature]) -> tuple[int, int]:
    """(reach in µs or -1, sessions back or -1) for which a column's values are kept."""
    reach, back = -1, -1
    for feature in features:
        match feature.window:
            case Session():
                back = max(back, feature.window.back)
            case Lifetime():
                reach = op.FOREVER
            case _:
                reach = max(reach, reach_us(feature))
    return reach, back
