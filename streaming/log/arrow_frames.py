"""Frames as bytes: Arrow's IPC stream format, one batch an entry of the log."""

from __future__ import annotations

import pyarrow as pa

from feature_repo.contracts.events import EVENT_SCHEMA

# Every stream begins with it (the continuation marker of the format); no JSON text can.
MARKER = b"\xff\xff\xff\xff"
_TYPES = {field.name: field.type for field in EVENT_SCHEMA}
# Without these nothing can be told about an event, whatever the features need.
_NEEDED = ("event_id", "event_time", "event_type")
_EXPECTED = "an Arrow stream of columns of the event schema"


def encode_frame(events: pa.RecordBatch) -> bytes:
    """The bytes of a frame."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, events.schema) as writer:
        writer.write_batch(events)
    return bytes(sink.getvalue().to_pybytes())


def decode_frame(payload: bytes) -> pa.RecordBatch | str:
    """The frame in some bytes, or what was expected there; nothing is raised.

    Columns must be of `EVENT_SCHEMA`, in its types; what may be null is checked by row, later.
    """
    try:
        with pa.ipc.open_stream(pa.py_buffer(payload)) as reader:
            if differing := _differing(reader.schema):
                return f"{_EXPECTED}, not {differing}"
            batches = [batch for batch in reader if len(batch)]
            if len(batches) == 1:
                return batches[0]
            if batches:
                return pa.concat_batches(batches)
            return pa.RecordBatch.from_pylist([], reader.schema)
    except (pa.ArrowException, OSError) as error:
        return f"{_EXPECTED} ({error})"


def _differing(schema: pa.Schema) -> str:
    """In what a schema is none of an event's projections; empty if it is one."""
    if schema.names == EVENT_SCHEMA.names and schema.types == EVENT_SCHEMA.types:
        return ""
    strange = [str(field) for field in schema if _TYPES.get(field.name) != field.type]
    missing = [f"no {name}" for name in _NEEDED if name not in schema.names]
    repeated = ["repeated columns"] if len(set(schema.names)) < len(schema.names) else []
    return ", ".join([*missing, *strange, *repeated])
