"""Which events an entity's features need, whose they are, and when the log knew them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.contracts.events import EVENT_TYPES, EventType
from feature_repo.contracts.feature_set import EntityKey
from feature_repo.engine.program import Program

_MANY = 65_536  # combinations: about a corridor's


def key_texts(entity: EntityKey, events: pa.RecordBatch) -> pa.Array:
    """Each event's key: its columns joined by `-`; null where one of them is null.

    >>> batch = pa.record_batch({"send_country": ["GB", None], "receive_country": ["NG", "NG"]})
    >>> key_texts(EntityKey("corridor", ("send_country", "receive_country"), "corridor"), batch)
    <pyarrow.lib.StringArray object at ...>
    [
      "GB-NG",
      null
    ]
    """
    return plain_texts(key_column(entity, events))


def key_column(entity: EntityKey, events: pa.RecordBatch) -> pa.Array:
    """As `key_texts`, but perhaps dictionary-encoded."""
    parts = [events.column(column) for column in entity.columns]
    return parts[0] if len(parts) == 1 else join_texts(parts)


def plain_texts(texts: pa.Array) -> pa.Array:
    """The texts without a dictionary."""
    return texts if texts.type == pa.string() else texts.cast(pa.string())


def join_texts(parts: list[pa.Array]) -> pa.Array:
    """Texts joined by `-`, row by row; null where one is null. May be dictionary-encoded.

    Each different combination is joined once: there are far fewer than rows.
    """
    if any(part.null_count == len(part) for part in parts):
        return pa.nulls(len(parts[0]), pa.string())
    encoded = [
        part if pa.types.is_dictionary(part.type) else part.dictionary_encode() for part in parts
    ]
    combinations = math.prod(len(part.dictionary) + 1 for part in encoded)
    if combinations > _MANY:
        return pc.binary_join_element_wise(*map(plain_texts, parts), "-")
    codes = np.zeros(len(parts[0]), np.int64)
    for part in encoded:
        null = len(part.dictionary)
        codes = codes * (null + 1) + part.indices.fill_null(null).to_numpy()
    used = np.flatnonzero(np.bincount(codes, minlength=combinations))
    texts = [[*part.dictionary.to_pylist(), None] for part in encoded]
    joined = []
    for code in used.tolist():
        chosen, rest = [], code
        for choices in reversed(texts):
            rest, place = divmod(rest, len(choices))
            chosen.append(choices[place])
        joined.append(None if None in chosen else "-".join(reversed(chosen)))
    place_of = np.full(combinations, -1, np.int32)
    present = [at for at, text in enumerate(joined) if text is not None]
    place_of[used[present]] = np.arange(len(present))
    places = place_of[codes]
    return pa.DictionaryArray.from_arrays(
        pa.array(places, mask=places < 0),
        pa.array([joined[at] for at in present], pa.string()),
    )


def is_type(events: pa.RecordBatch, kinds: frozenset[EventType]) -> npt.NDArray[np.bool_]:
    """Whether each event is of one of the types."""
    encoded = events.column("event_type")
    if not pa.types.is_dictionary(encoded.type):
        encoded = encoded.dictionary_encode()
    wanted = np.array([name in kinds for name in encoded.dictionary.to_pylist()], np.bool_)
    if not len(wanted):
        return np.zeros(len(events), np.bool_)
    result: npt.NDArray[np.bool_] = wanted[encoded.indices.fill_null(0).to_numpy()]
    return result


def log_times_us(events: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """When the log knew each event, µs since 1970: a label's arrival, any other's event time."""
    times: npt.NDArray[np.int64] = events.column("event_time").cast(pa.int64()).to_numpy()
    arrivals = events.column("label_arrival_time")
    if arrivals.null_count == len(arrivals):
        return times
    labels = is_type(events, frozenset({EventType.LABEL})) & ~_nulls(arrivals)
    known = arrivals.cast(pa.int64()).fill_null(0).to_numpy()
    return np.where(labels, known, times)


def _nulls(column: pa.Array) -> npt.NDArray[np.bool_]:
    result: npt.NDArray[np.bool_] = column.is_null().to_numpy(zero_copy_only=False)
    return result


def needed(program: Program, events: pa.RecordBatch) -> npt.NDArray[np.bool_] | None:
    """Which events the entity's features need: of a type they use, with a key; None: all."""
    keep = np.ones(len(events), np.bool_)
    if program.event_types != frozenset(EVENT_TYPES):
        keep &= is_type(events, program.event_types)
    for column in program.entity.columns:
        if events.column(column).null_count:
            keep &= ~_nulls(events.column(column))
    return None if keep.all() else keep


def project(program: Program, events: pa.RecordBatch) -> pa.RecordBatch:
    """The events that the entity's features need, with the columns that they need."""
    keep = needed(program, events)
    if keep is not None:
        events = events.filter(pa.array(keep))
    return events.select(program.frame_schema.names)
