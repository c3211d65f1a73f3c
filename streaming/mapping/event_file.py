"""The file log: one Parquet file of events in event-time order, of any size in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.contracts.events import EVENT_SCHEMA
from streaming.mapping.dead_letters import DeadLetter
from streaming.mapping.duplicates import duplicate_rows
from streaming.mapping.time_ranges import TimeRanges

ROW_GROUP = 65_536
# Arrow bytes of the events sorted at a time; sorting holds them twice.
RANGE_BYTES = 128 << 20
DUPLICATE = "duplicate: an earlier row of the file has this event id"
_ROW = "source_row"
_STAGED = EVENT_SCHEMA.append(pa.field(_ROW, pa.int64()))
# Columns of few values; in the others a dictionary only costs time.
_DICTIONARY = [
    "event_type", "page", "send_country", "receive_country", "currency",
    "channel", "device", "ip_country",
]  # fmt: skip

OnLetters = Callable[[list[DeadLetter]], None]


class Written(NamedTuple):
    """Events in a file, and the first and last event time in µs since 1970 (None without any)."""

    events: int
    first_us: int | None
    last_us: int | None


class StagedEvents:
    """Events in source order in a temporary file, to be sorted into the file log.

    Use as a context manager; `folder` (for all temporary files) must exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "staged.parquet"
        self._writer = pq.ParquetWriter(
            self._path, _STAGED, compression="lz4", use_dictionary=_DICTIONARY
        )
        self._ranges = TimeRanges()
        self._bytes = 0
        self.count = 0

    def __enter__(self) -> StagedEvents:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def append(self, events: pa.RecordBatch, rows: npt.NDArray[np.int64]) -> None:
        """Stage a batch of `EVENT_SCHEMA` with the source row of each event."""
        staged = pa.RecordBatch.from_arrays([*events.columns, pa.array(rows)], schema=_STAGED)
        self._writer.write_batch(staged)
        self._ranges.learn(_times(staged), rows)
        self._bytes += staged.nbytes
        self.count += len(staged)

    def write_sorted(
        self, out: Path, on_duplicates: OnLetters, progress: Callable[[float], None]
    ) -> Written:
        """Write the events to `out` by (event time, source row), each event id once.

        Of rows with the same event id the first in the source stays; the others go to
        `on_duplicates`.
        """
        self._writer.close()
        duplicates = duplicate_rows(self._path, _ROW, self._folder / "spill")
        written, first, last = 0, None, None
        pending = EVENT_SCHEMA.empty_table()
        with pq.ParquetWriter(
            out, EVENT_SCHEMA, compression="zstd", compression_level=1, use_dictionary=_DICTIONARY
        ) as writer:
            for events in self._sorted_ranges(duplicates, on_duplicates):
                times = _times(events)
                first = int(times[0]) if first is None else first
                last = int(times[-1])
                written += len(events)
                # Row groups of one size, also where one range ends and the next begins.
                pending = pa.concat_tables([pending, events])
                whole = len(pending) // ROW_GROUP * ROW_GROUP
                if whole:
                    writer.write_table(pending.slice(0, whole), row_group_size=ROW_GROUP)
                    pending = pending.slice(whole)
                progress(written / (self.count - len(duplicates)))
            if len(pending):
                writer.write_table(pending)
        return Written(written, first, last)

    def _sorted_ranges(
        self, duplicates: npt.NDArray[np.int64], on_duplicates: OnLetters
    ) -> Iterator[pa.Table]:
        """The events without duplicates, sorted, in consecutive ranges of time; none is empty."""
        kept = self._without(duplicates, on_duplicates)
        count = self._ranges.cut(-(-self._bytes // RANGE_BYTES))
        tables = self._split(kept, count) if count > 1 else [pa.Table.from_batches(kept, _STAGED)]
        for table in tables:
            if len(table):
                # Stable, and rows come in the source's order: ties stay in it.
                order = np.argsort(_times(table), kind="stable")
                yield table.drop_columns([_ROW]).combine_chunks().take(pa.array(order))

    def _without(
        self, duplicates: npt.NDArray[np.int64], on_duplicates: OnLetters
    ) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(self._path, pre_buffer=False, buffer_size=1 << 20) as staged:
            for batch in staged.iter_batches(ROW_GROUP):
                rows = batch.column(_ROW).to_numpy()
                repeated = np.isin(rows, duplicates, assume_unique=True)
                if repeated.any():
                    on_duplicates(_letters(batch.filter(pa.array(repeated))))
                    batch = batch.filter(pa.array(~repeated))  # noqa: PLW2901
                yield batch.cast(_STAGED)

    def _split(self, batches: Iterator[pa.RecordBatch], count: int) -> Iterator[pa.Table]:
        """The rows of each range, in the source's order, by way of a file each."""
        paths = [self._folder / f"range-{at}.arrow" for at in range(count)]
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        files = [pa.ipc.new_stream(str(path), _STAGED, options=options) for path in paths]
        for batch in batches:
            ranges = self._ranges.of(_times(batch), batch.column(_ROW).to_numpy())
            for at in np.unique(ranges):
                files[at].write_batch(batch.take(pa.array(np.flatnonzero(ranges == at))))
        for file in files:
            file.close()
        for path in paths:
            with pa.OSFile(str(path)) as raw, pa.ipc.open_stream(raw) as stream:
                yield stream.read_all()
            path.unlink()


def _times(events: pa.RecordBatch | pa.Table) -> npt.NDArray[np.int64]:
    """Event times in µs since 1970."""
    times: npt.NDArray[np.int64] = events.column("event_time").cast(pa.int64()).to_numpy()
    return times


def _letters(repeated: pa.RecordBatch) -> list[DeadLetter]:
    events = repeated.select(EVENT_SCHEMA.names).to_pylist()
    rows = repeated.column(_ROW).to_pylist()
    return [
        DeadLetter(row, "event_id", event["event_id"], DUPLICATE, event)
        for row, event in zip(rows, events, strict=True)
    ]
