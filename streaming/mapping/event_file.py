"""The file log: one Parquet file of events by log time, of any size in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo.contracts.events import EVENT_SCHEMA, EventType
from streaming.mapping.dead_letters import DeadLetter
from streaming.mapping.duplicates import duplicate_rows
from streaming.mapping.time_ranges import TimeRanges

ROW_GROUP = 65_536
# Arrow bytes of the events sorted at a time; sorting holds them twice.
RANGE_BYTES = 128 << 20
DUPLICATE = "duplicate: an earlier row of the file has this event id"
_ROW = "source_row"
_BESIDE = "beside_event"  # a label that its row gives beside an event of its own
_STAGED = EVENT_SCHEMA.append(pa.field(_ROW, pa.int64())).append(pa.field(_BESIDE, pa.bool_()))
# Columns of few values; in the others a dictionary only costs time.
_DICTIONARY = [
    "event_type", "page", "send_country", "receive_country", "currency",
    "channel", "device", "ip_country",
]  # fmt: skip

Ints = npt.NDArray[np.int64]
OnLetters = Callable[[list[DeadLetter]], None]


class Written(NamedTuple):
    """Events in a file, the labels among them that rows gave beside their own event, and the first
    and last event time in µs since 1970 (None without any)."""

    events: int
    labels: int
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

    def append(
        self, events: pa.RecordBatch, rows: npt.NDArray[np.int64], *, labels: bool = False
    ) -> None:
        """Stage a batch of `EVENT_SCHEMA` with the source row of each event.

        `labels`: they are the labels of events staged before, from the same rows.
        """
        marks = pa.repeat(pa.scalar(labels), len(events))
        staged = pa.RecordBatch.from_arrays(
            [*events.columns, pa.array(rows), marks], schema=_STAGED
        )
        self._writer.write_batch(staged)
        self._ranges.learn(log_times_us(staged), rows)
        self._bytes += staged.nbytes
        self.count += len(staged)

    def write_sorted(
        self, out: Path, on_duplicates: OnLetters, progress: Callable[[float], None]
    ) -> Written:
        """Write the events to `out` by (log time, source row), each event id once.

        A label that a row gives beside its event stands after it. Of rows with the same event id
        the first in the source stays; the others go to `on_duplicates`, and their labels nowhere.
        """
        self._writer.close()
        duplicates = duplicate_rows(self._path, _ROW, self._folder / "spill")
        written = labels = 0
        first: int | None = None
        last: int | None = None
        pending = EVENT_SCHEMA.empty_table()
        with pq.ParquetWriter(
            out, EVENT_SCHEMA, compression="zstd", compression_level=1, use_dictionary=_DICTIONARY
        ) as writer:
            for staged in self._sorted_ranges(duplicates, on_duplicates):
                events = staged.drop_columns([_ROW, _BESIDE])
                times = event_times_us(events)
                first = min(int(times.min()), int(times.min()) if first is None else first)
                last = max(int(times.max()), last or 0)
                written += len(events)
                labels += pc.sum(staged[_BESIDE]).as_py()
                # Row groups of one size, also where one range ends and the next begins.
                pending = pa.concat_tables([pending, events])
                whole = len(pending) // ROW_GROUP * ROW_GROUP
                if whole:
                    writer.write_table(pending.slice(0, whole), row_group_size=ROW_GROUP)
                    pending = pending.slice(whole)
                progress(written / self.count)
            if len(pending):
                writer.write_table(pending)
        return Written(written, labels, first, last)

    def _sorted_ranges(
        self, duplicates: npt.NDArray[np.int64], on_duplicates: OnLetters
    ) -> Iterator[pa.Table]:
        """The events without duplicates, sorted, in consecutive ranges of time; none is empty."""
        kept = self._without(duplicates, on_duplicates)
        count = self._ranges.cut(-(-self._bytes // RANGE_BYTES))
        tables = self._split(kept, count) if count > 1 else [pa.Table.from_batches(kept, _STAGED)]
        for table in tables:
            if len(table):
                # Stable: an event, staged before its label, stays before it.
                order = np.lexsort((table[_ROW].to_numpy(), log_times_us(table)))
                yield table.combine_chunks().take(pa.array(order))

    def _without(
        self, duplicates: npt.NDArray[np.int64], on_duplicates: OnLetters
    ) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(self._path, pre_buffer=False, buffer_size=1 << 20) as staged:
            for batch in staged.iter_batches(ROW_GROUP):
                rows = batch.column(_ROW).to_numpy()
                repeated = np.isin(rows, duplicates)
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
            ranges = self._ranges.of(log_times_us(batch), batch.column(_ROW).to_numpy())
            for at in np.unique(ranges):
                files[at].write_batch(batch.take(pa.array(np.flatnonzero(ranges == at))))
        for file in files:
            file.close()
        for path in paths:
            with pa.OSFile(str(path)) as raw, pa.ipc.open_stream(raw) as stream:
                yield stream.read_all()
            path.unlink()


def event_times_us(events: pa.RecordBatch | pa.Table) -> Ints:
    """Event times in µs since 1970."""
    times: Ints = events.column("event_time").cast(pa.int64()).to_numpy()
    return times


def log_times_us(events: pa.RecordBatch | pa.Table) -> Ints:
    """When the log knew of each event, µs since 1970: of labels their arrival, where it is told."""
    arrival = events.column("label_arrival_time")
    if arrival.null_count == len(events):
        return event_times_us(events)
    label = pc.equal(events.column("event_type"), str(EventType.LABEL))
    known = pc.if_else(
        label, pc.coalesce(arrival, events.column("event_time")), events.column("event_time")
    )
    times: Ints = known.cast(pa.int64()).to_numpy()
    return times


def _letters(repeated: pa.RecordBatch) -> list[DeadLetter]:
    """One a row: a label beside its row's event has none of its own."""
    repeated = repeated.filter(pc.invert(repeated.column(_BESIDE)))
    events = repeated.select(EVENT_SCHEMA.names).to_pylist()
    rows = repeated.column(_ROW).to_pylist()
    return [
        DeadLetter(row, "event_id", event["event_id"], DUPLICATE, event)
        for row, event in zip(rows, events, strict=True)
    ]
