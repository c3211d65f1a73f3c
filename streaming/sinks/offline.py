"""The offline sink: one feature row an event, as date-partitioned Parquet that Feast reads."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from bytewax.outputs import DynamicSink, StatelessSinkPartition

from feature_repo.engine.evaluate import ROW_SCHEMA
from streaming.updates import Update

# Large enough that a replay makes few files, small enough to hold (about 350 bytes a row).
FLUSH_ROWS = 262_144
_US_PER_DAY = timedelta(days=1) // timedelta(microseconds=1)
# zstd level 1: a third smaller than snappy at about the same speed on these rows.
_WRITE_OPTIONS = {"compression": "zstd", "compression_level": 1}


class OfflineWriter:
    """Collects rows and writes them as `event_date=D/GENERATION-SHARD-OFFSET.parquet`.

    The name is that of the first update in the file, so a replay of the same log in the same
    frames replaces the files instead of adding to them. A file appears whole or not at all.

    Args:
        table: the table's folder.
        generation: names the run of definitions and log that the rows belong to.
        flush_after: longest time that rows wait (None: only their number counts, which keeps
            file boundaries equal from replay to replay).
    """

    def __init__(
        self,
        table: Path,
        generation: str,
        flush_rows: int = FLUSH_ROWS,
        flush_after: timedelta | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._table = table
        self._generation = generation
        self._flush_rows = flush_rows
        self._flush_after_s = flush_after.total_seconds() if flush_after else float("inf")
        self._monotonic_s = monotonic_s
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self._waiting_since_s = 0.0
        self._name = ""

    def write(self, update: Update) -> None:
        """Take in an update; flushes when enough rows or time have come together."""
        if not self._waiting:
            self._name = f"{self._generation}-{update.shard:02d}-{update.offset:020d}.parquet"
            self._waiting_since_s = self._monotonic_s()
        self._waiting.append(update.rows.events)
        self._waiting_rows += len(update.rows.events)
        waited_s = self._monotonic_s() - self._waiting_since_s
        if self._waiting_rows >= self._flush_rows or waited_s >= self._flush_after_s:
            self.flush()

    def flush(self) -> None:
        """Write what has come together, one file a day."""
        if not self._waiting:
            return
        rows = pa.Table.from_batches(self._waiting, ROW_SCHEMA)
        days = rows.column("event_timestamp").cast(pa.int64()).to_numpy() // _US_PER_DAY
        for day in np.unique(days).tolist():
            folder = self._table / f"event_date={date(1970, 1, 1) + timedelta(days=day)}"
            folder.mkdir(parents=True, exist_ok=True)
            unfinished = folder / f".{self._name}.part"
            pq.write_table(rows.filter(pa.array(days == day)), unfinished, **_WRITE_OPTIONS)
            unfinished.rename(folder / self._name)
        self._waiting, self._waiting_rows = [], 0


class _OfflinePartition(StatelessSinkPartition[tuple[str, Update]]):
    def __init__(self, writer: OfflineWriter) -> None:
        self._writer = writer

    def write_batch(self, items: list[tuple[str, Update]]) -> None:
        for _, update in items:
            self._writer.write(update)

    def close(self) -> None:
        self._writer.flush()


class OfflineSink(DynamicSink[tuple[str, Update]]):
    """Writes every event's row through a writer made when the dataflow starts."""

    def __init__(self, open_writer: Callable[[], OfflineWriter]) -> None:
        self._open_writer = open_writer

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _OfflinePartition:
        """Open the worker's own writer."""
        return _OfflinePartition(self._open_writer())
