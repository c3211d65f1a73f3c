"""The offline sink: one feature row an event, as date-partitioned Parquet that Feast reads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from bytewax.outputs import DynamicSink, StatelessSinkPartition

from feature_repo.engine.evaluate import ROW_SCHEMA
from streaming.updates import Update

_US_PER_DAY = timedelta(days=1) // timedelta(microseconds=1)
# zstd level 1: a third smaller than snappy at about the same speed on these rows.
_WRITE_OPTIONS = {"compression": "zstd", "compression_level": 1}


@dataclass
class _Open:
    """The file that a shard's rows go into now."""

    segment: int
    rows: list[pa.RecordBatch] = field(default_factory=list)
    unwritten: bool = False


class OfflineWriter:
    """Writes a shard's rows of one stretch of the log to `event_date=D/GENERATION-SHARD-SEGMENT`.

    Which file a row belongs to follows from its place in the log alone: offset // segment. So a
    replay writes the same files again, whatever happened between, and their names sort in the
    order of the log. A file appears whole or not at all; one that is flushed early is written
    again when its segment has more rows.

    Args:
        table: the table's folder.
        generation: names the log, and the definitions, that the rows come from.
        segment: offsets that share a file.
        flush_after: longest time that rows wait to be written (None: until their segment ends).
    """

    def __init__(
        self, table: Path, generation: str, segment: int, flush_after: timedelta | None = None
    ) -> None:
        self._table = table
        self._generation = generation
        self._segment = segment
        self._open: dict[int, _Open] = {}
        self._written: set[Path] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._error: Exception | None = None
        self._timer: threading.Thread | None = None
        if flush_after is not None:
            self._timer = threading.Thread(
                target=self._flush_every, args=(flush_after.total_seconds(),), daemon=True
            )
            self._timer.start()

    def write(self, update: Update) -> None:
        """Take in an update; writes the shard's file when the update begins the next one."""
        if self._error is not None:
            raise self._error
        segment = update.offset // self._segment
        with self._lock:
            opened = self._open.setdefault(update.shard, _Open(segment))
            if opened.segment != segment:
                self._flush(update.shard, opened)
                opened = self._open[update.shard] = _Open(segment)
            if len(update.rows.events):
                opened.rows.append(update.rows.events)
                opened.unwritten = True

    def flush(self) -> None:
        """Write what waits; the files stay open for more rows."""
        with self._lock:
            for shard, opened in self._open.items():
                self._flush(shard, opened)

    def close(self) -> None:
        """Write what waits and end the timer."""
        self._closed.set()
        if self._timer is not None:
            self._timer.join()
        self.flush()
        if self._error is not None:
            raise self._error

    def remove_stale(self) -> None:
        """Remove files of this generation that a complete replay has not written again.

        A mended mapping moves rows to other days; their old files would double them.
        """
        for path in self._table.glob(f"event_date=*/{self._generation}-*.parquet"):
            if path not in self._written:
                path.unlink()

    def _flush(self, shard: int, opened: _Open) -> None:
        if not opened.unwritten:
            return
        name = f"{self._generation}-{shard:02d}-{opened.segment:012d}.parquet"
        rows = pa.Table.from_batches(opened.rows, ROW_SCHEMA)
        days = rows.column("event_timestamp").cast(pa.int64()).to_numpy() // _US_PER_DAY
        for day in np.unique(days).tolist():
            folder = self._table / f"event_date={date(1970, 1, 1) + timedelta(days=day)}"
            folder.mkdir(parents=True, exist_ok=True)
            unfinished = folder / f".{name}.part"
            pq.write_table(rows.filter(pa.array(days == day)), unfinished, **_WRITE_OPTIONS)
            unfinished.rename(folder / name)
            self._written.add(folder / name)
        opened.unwritten = False

    def _flush_every(self, seconds: float) -> None:
        while not self._closed.wait(seconds):
            try:
                self.flush()
            except Exception as error:  # shown by the next write: this thread has no caller
                self._error = error
                return


class _OfflinePartition(StatelessSinkPartition[tuple[str, Update]]):
    def __init__(self, writer: OfflineWriter, repeated: Callable[[int], None]) -> None:
        self._writer = writer
        self._repeated = repeated

    def write_batch(self, items: list[tuple[str, Update]]) -> None:
        for _, update in items:
            self._writer.write(update)
            self._repeated(update.rows.duplicates)

    def close(self) -> None:
        self._writer.close()


class OfflineSink(DynamicSink[tuple[str, Update]]):
    """Writes every event's row; `repeated` is called with the number of duplicates left out."""

    def __init__(
        self, writer: OfflineWriter, repeated: Callable[[int], None] = lambda events: None
    ) -> None:
        self._writer = writer
        self._repeated = repeated

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _OfflinePartition:
        """One worker a process: the writer is its own."""
        return _OfflinePartition(self._writer, self._repeated)
