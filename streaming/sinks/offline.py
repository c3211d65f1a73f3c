"""The offline sink: admitted events and feature rows as date-partitioned Parquet."""

from __future__ import annotations

import threading
from collections.abc import Collection
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo.contracts.events import EventType
from streaming.offline_files import OfflineName, sync, write_options

_US_PER_DAY = timedelta(days=1) // timedelta(microseconds=1)
_EPOCH = date(1970, 1, 1)
_ROW_GROUP = 131_072
# A partition's rows that wait; while a stream catches up they would fill the memory otherwise.
MOST_WAITING_BYTES = 64 << 20
_MANY_ROWS = 256


class OfflineWriter:
    """Writes rows of the log's partitions to `event_date=D/GENERATION-PARTITION-FIRSTOFFSET`.

    A file holds the rows of one partition and day that came between two flushes, under the first
    offset among them; it appears whole or not at all. Flush before every checkpoint: no file then
    crosses one, `resume` removes what came after it, and the replay writes it again.

    Events are filed under the day on which they became known (a label's arrival), feature rows
    under the day of their event. Safe to use from several threads.

    Args:
        table: the table's folder.
        schema: of the rows; with a column `event_timestamp` (feature rows) or `event_time`.
        generation: names the log, and the definitions, that the rows come from.
        flush_after: longest time that rows wait to be written (None: until `flush`).
    """

    def __init__(
        self,
        table: Path,
        schema: pa.Schema,
        generation: int | str,
        *,
        flush_after: timedelta | None = None,
    ) -> None:
        self._table = table
        self._schema = schema
        self._options = write_options(schema)
        self._generation = str(generation)
        self._waiting: dict[int, tuple[int, list[pa.RecordBatch]]] = {}
        self._bytes: dict[int, int] = {}
        self._row_bytes = 0.0  # of a row, when last looked
        self._lock = threading.Lock()  # of what waits: held for an instant
        self._disk = threading.Lock()  # of the files: one flush at a time, in order
        self._closed = threading.Event()
        self._error: Exception | None = None
        self._timer: threading.Thread | None = None
        if flush_after is not None:
            self._timer = threading.Thread(
                target=self._flush_every, args=(flush_after.total_seconds(),), daemon=True
            )
            self._timer.start()

    def write(self, partition: int, first_offset: int, rows: pa.RecordBatch) -> None:
        """Take in rows of a partition; `first_offset` is that of the frame they come from.

        Raises:
            Exception: what made a flush in the background fail.
        """
        if self._error is not None:
            raise self._error
        if not len(rows):
            return
        with self._lock:
            self._waiting.setdefault(partition, (first_offset, []))[1].append(rows)
            size = self._bytes.get(partition, 0) + self._size_of(rows)
            self._bytes[partition] = size
        if size > MOST_WAITING_BYTES:
            self._flush([partition])

    def _size_of(self, rows: pa.RecordBatch) -> int:
        """About how many bytes they are: to find out takes 40 µs, of however few rows."""
        if len(rows) >= _MANY_ROWS or not self._row_bytes:
            self._row_bytes = rows.nbytes / len(rows)
        return int(len(rows) * self._row_bytes)

    def flush(self, partitions: Collection[int] | None = None) -> None:
        """Write what waits of partitions (None: of all); returns when it is on disk."""
        self._flush(None if partitions is None else list(partitions))
        if self._error is not None:
            raise self._error

    def resume(self, partition: int, offset: int | None) -> None:
        """Remove the partition's files that begin beyond `offset` (the last one checkpointed).

        None removes all of them: the partition is replayed from its start. Other generations
        stay.
        """
        generation = OfflineName(self._generation, partition, 0).generation.rjust(10, "0")
        for path in self._table.glob(f"event_date=*/{_escaped(generation)}-{partition:04d}-*"):
            name = OfflineName.parse(path.name)
            if name and name.generation == generation and (offset is None or name.offset > offset):
                path.unlink()

    def close(self) -> None:
        """Write what waits and end the timer."""
        self._closed.set()
        if self._timer is not None:
            self._timer.join()
        self.flush()

    def _flush(self, partitions: list[int] | None) -> None:
        with self._disk:
            with self._lock:
                chosen = list(self._waiting) if partitions is None else partitions
                taken = [(p, *self._waiting.pop(p)) for p in chosen if p in self._waiting]
                for partition in chosen:
                    self._bytes.pop(partition, None)
            written: list[Path] = []
            for partition, offset, batches in taken:
                name = OfflineName(self._generation, partition, offset).file
                # Joined: hundreds of small pieces take longer to encode than their rows.
                written += self._write(name, pa.Table.from_batches(batches).combine_chunks())
            sync(sorted({path.parent for path in written}))

    def _write(self, name: str, rows: pa.Table) -> list[Path]:
        days = _days(rows)
        written = []
        for day in np.unique(days).tolist():
            folder = self._table / f"event_date={_EPOCH + timedelta(days=day)}"
            folder.mkdir(parents=True, exist_ok=True)
            unfinished = folder / f".{name}.part"
            of_day = rows if (days == day).all() else rows.filter(pa.array(days == day))
            with pq.ParquetWriter(unfinished, self._schema, **self._options) as writer:
                writer.write_table(of_day.cast(self._schema), row_group_size=_ROW_GROUP)
            sync([unfinished])
            unfinished.rename(folder / name)
            written.append(folder / name)
        return written

    def _flush_every(self, seconds: float) -> None:
        while not self._closed.wait(seconds):
            try:
                self._flush(None)
            except Exception as error:  # shown by the next write: this thread has no caller
                self._error = error
                return


def _days(rows: pa.Table) -> npt.NDArray[np.int64]:
    """Days since 1970 that rows are filed under."""
    if "event_timestamp" in rows.column_names:
        instants = rows.column("event_timestamp")
    else:
        label = pc.equal(rows.column("event_type"), str(EventType.LABEL))
        known = pc.coalesce(rows.column("label_arrival_time"), rows.column("event_time"))
        instants = pc.if_else(label, known, rows.column("event_time"))
    days: npt.NDArray[np.int64] = instants.cast(pa.int64()).to_numpy() // _US_PER_DAY
    return days


def _escaped(text: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)
