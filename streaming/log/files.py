"""Event files as a log: Parquet in the order of log time, the row number is the offset.

One file holds whole events, and replays into the streams of every entity.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.contracts.errors import InputError
from feature_repo.contracts.events import EVENT_SCHEMA
from feature_repo.contracts.feature_set import FeatureSet
from feature_repo.contracts.money import ExchangeRates
from feature_repo.contracts.settings import SHARDS
from streaming.log.entity_frames import EntityFrames, with_missing_amounts
from streaming.log.errors import DeliveryError
from streaming.log.frames import Frame, Partition, Positions

FRAME_ROWS = 65_536


class FileLog:
    """Appends events to a folder of event files, a file an append; `FileLogReader` reads it.

    Whole events only, in the order of their log time; amounts in the reference currency are
    added as in the other logs.

    Args:
        folder: made if it is not there; events are added to what it holds.
        rates: dated exchange rates; the ones that come with daima unless given.

    Raises:
        InputError: the folder holds something else than event files.
    """

    def __init__(self, folder: Path, rates: ExchangeRates | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._rates = rates or ExchangeRates()
        self._rows = sum(map(_rows_in, _files_in(folder)))

    def append(self, events: pa.RecordBatch) -> int:
        """Append a batch of `EVENT_SCHEMA`; returns its number of events once they are on disk.

        Raises:
            DeliveryError: the disk did not take them.
        """
        path = self._folder / f"{self._rows:019d}.parquet"
        draft = path.with_suffix(".new")
        try:
            with draft.open("wb") as file:
                batch = with_missing_amounts(events, self._rates)
                pq.write_table(pa.Table.from_batches([batch]), file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except OSError as error:
            waiting = events.column("event_id").to_pylist()
            raise DeliveryError(0, waiting, str(error)) from error
        self._rows += len(events)
        return len(events)

    def close(self) -> None:
        """Nothing is open between appends."""


class FileLogReader:
    """Reads event files in frames of every (entity, shard).

    Args:
        path: a Parquet file of `EVENT_SCHEMA` in the order of log time (`daima replay` writes
            one), or a folder of such files, which follow each other by name.
        feature_set: whose entities the frames are for.
        partitions: which partitions, and after which row number of the log; None: from the first
            row. All partitions from the first row unless given.
        frame_rows: rows read at a time; memory grows with it, not with the file.
        shards: partitions of each entity.
        kept: what of a batch of whole events counts; the others keep their row numbers.

    Attributes:
        gone: always empty: a file keeps all it has.

    Raises:
        InputError: a file is missing, is not Parquet, or has other columns.
    """

    def __init__(
        self,
        path: Path,
        feature_set: FeatureSet,
        partitions: Positions | None = None,
        frame_rows: int = FRAME_ROWS,
        shards: int = SHARDS,
        *,
        kept: Callable[[pa.RecordBatch], pa.RecordBatch] = lambda events: events,
    ) -> None:
        self.gone: dict[Partition, int] = {}
        self._kept = kept
        self._split = EntityFrames(feature_set, shards)
        if partitions is None:
            every = ((name, at) for name in self._split.entities for at in range(shards))
            partitions = dict.fromkeys(every)
        # Partition -> first row wanted.
        self._first = {key: 0 if at is None else at + 1 for key, at in partitions.items()}
        files = _files_in(path) if path.is_dir() else [path]
        self._files = [open_event_file(file) for file in files]
        self._frame_rows = frame_rows
        self._steps = self._read()

    def poll(self) -> list[Frame]:
        """The frames of the next stretch of rows; raises StopIteration at the end.

        Every frame's offset is the last row of the stretch that was read, also where another
        partition has that row.
        """
        start, events = next(self._steps)
        offset = start + len(events) - 1
        return [
            Frame(*partition, offset, rows)
            for partition, rows in self._split.split(self._kept(events))
            if self._first.get(partition, offset + 1) <= start
        ]

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    def _read(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Stretches of rows with the number of their first, cut where a partition resumes."""
        cuts = sorted(set(self._first.values()))
        if not cuts:
            return
        for first_row, batch in self._batches(cuts[0]):
            end = first_row + len(batch)
            within = [cut for cut in cuts if first_row < cut < end]
            for start, stop in pairwise([first_row, *within, end]):
                if start >= cuts[0]:
                    yield start, batch.slice(start - first_row, stop - start)

    def _batches(self, wanted: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Batches with their first row number, without the row groups before a row."""
        row = 0
        for file in self._files:
            groups: list[int] = []
            for group in range(file.metadata.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if groups or row + rows > wanted:
                    groups.append(group)
                else:
                    row += rows
            if not groups:
                continue
            for batch in file.iter_batches(self._frame_rows, groups):
                if len(batch):
                    yield row, batch.cast(EVENT_SCHEMA)
                row += len(batch)


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


def _files_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


def _rows_in(path: Path) -> int:
    with open_event_file(path) as file:
        return int(file.metadata.num_rows)


def _other_than_events(schema: pa.Schema) -> str:
    if schema.names != EVENT_SCHEMA.names:
        missing = sorted(set(EVENT_SCHEMA.names) - set(schema.names))
        return f"missing: {missing}" if missing else f"columns in this order: {EVENT_SCHEMA.names}"
    for found, wanted in zip(schema, EVENT_SCHEMA, strict=True):
        plain = found.type.value_type if pa.types.is_dictionary(found.type) else found.type
        if plain != wanted.type and str(plain) != f"large_{wanted.type}":
            return f"{found.name} is {found.type}, not {wanted.type}"
    return ""
