"""A file as a log: one Parquet file of events in event-time order, one partition."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.contracts.errors import InputError
from feature_repo.contracts.events import EVENT_SCHEMA
from streaming.log.frames import Frame


class FileLogReader:
    """Reads an event file in frames; the offset is the row number.

    Args:
        path: a Parquet file of `EVENT_SCHEMA`, sorted by event time (`daima replay` writes one).
        frame_rows: events a frame; memory grows with it, not with the file.
        start: the first row to read.

    Raises:
        InputError: the file is missing, is not Parquet, or has other columns.
    """

    def __init__(self, path: Path, frame_rows: int = 65_536, start: int = 0) -> None:
        self._file = open_event_file(path)
        self._frame_rows = frame_rows
        self._offset = start
        self._batches = self._read(start)

    def _read(self, start: int) -> Iterator[pa.RecordBatch]:
        row = 0
        for batch in self._file.iter_batches(self._frame_rows):
            row += len(batch)
            if row > start:
                skipped = max(0, start - (row - len(batch)))
                yield batch.slice(skipped).cast(EVENT_SCHEMA)

    def poll(self) -> list[Frame]:
        """The next frame; raises StopIteration at the end of the file."""
        events = next(self._batches)
        frame = Frame(0, self._offset, events)
        self._offset += len(events)
        return [frame]

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def open_event_file(path: Path) -> pq.ParquetFile:
    """Open an event file after checking that it is one.

    Raises:
        InputError: see `FileLogReader`.
    """
    action = "ingest it first: daima replay FILE --mapping M.yaml"
    if not path.is_file():
        raise InputError("events", str(path), "a Parquet file of events", action)
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError("events", str(path), "a readable Parquet file", action) from error
    if problem := _other_than_events(file.schema_arrow):
        file.close()
        raise InputError("events", str(path), f"the event schema ({problem})", action)
    return file


def _other_than_events(schema: pa.Schema) -> str:
    if schema.names != EVENT_SCHEMA.names:
        missing = sorted(set(EVENT_SCHEMA.names) - set(schema.names))
        return f"missing: {missing}" if missing else f"columns in this order: {EVENT_SCHEMA.names}"
    for found, wanted in zip(schema, EVENT_SCHEMA, strict=True):
        plain = found.type.value_type if pa.types.is_dictionary(found.type) else found.type
        if plain != wanted.type and str(plain) != f"large_{wanted.type}":
            return f"{found.name} is {found.type}, not {wanted.type}"
    return ""
