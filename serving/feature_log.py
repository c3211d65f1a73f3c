"""The feature log: a share of what was served, as it was served, in Parquet files.

On the event loop a batch is only put into a queue, whose room is bounded: what finds it full is
dropped and counted. A thread of its own chooses rows, gathers them by version and writes files:
`feature_log/MODEL/date=YYYY-MM-DD/TIME-VERSION-PROCESS-NUMBER.parquet`, each whole or not there.

A row holds who asked, when and as of which instant, which version answered what, the vector it was
fed (a column an input, `view:feature`; categories as their numbers, NaN where missing) and what
became of each feature. Rows of one file are of one version: its inputs are the columns.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import get_ident
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.contracts.events import TIMESTAMP, to_epoch_us
from feature_repo.contracts.model_inputs import ModelInputs
from feature_repo.stores.forgotten import ForgottenFile
from serving.feature_log_retention import remove_before
from serving.feature_log_settings import FeatureLogSettings
from serving.scored import ScoredBatch
from serving.settings import ServingSettings

log = logging.getLogger(__name__)

# Between two looks at the queue: long enough that the event loop hardly notices the thread.
_LOOK_EVERY_S = 0.2
_REMOVE_EVERY_S = 600.0
_CATEGORY = pa.dictionary(pa.int32(), pa.string())
_Numbered = tuple[datetime, ScoredBatch]


@dataclass
class _Waiting:
    """Rows of one version that are not in a file yet."""

    since_s: float
    rows: int = 0
    nbytes: int = 0
    parts: list[tuple[datetime, ScoredBatch, Sequence[int]]] = field(default_factory=list)


class FeatureLog:
    """An observer of the service that keeps a share of what it sees.

    Args:
        folder: `feature_log` in daima's home.
        settings: the share, and how files are cut.
        tombstones: customers forgotten while their rows wait are not written.
        clock: the present, UTC.

    Attributes:
        written: rows in files.
        dropped: rows that found no room, or that the disk did not take.
    """

    def __init__(
        self,
        folder: Path,
        settings: FeatureLogSettings,
        tombstones: ForgottenFile,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.written = 0
        self.dropped = 0
        self._folder = folder
        self._settings = settings
        self._tombstones = tombstones
        self._clock = clock
        self._queue: deque[_Numbered] = deque()
        # Rows put in by each thread (the event loop, a shadow's) and taken out: each count is
        # changed by one thread, so that how many wait needs no lock.
        self._put: dict[int, int] = {}
        self._taken = 0
        self._waiting: dict[tuple[str, str], _Waiting] = {}
        self._numbers = itertools.count()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._failing = False

    def __call__(self, batch: ScoredBatch) -> None:
        """Take a batch, or not; 1 µs."""
        settings = self._settings
        customers = batch.customers
        if settings.by == "request":
            if not settings.keeps(batch.request_id):
                return
        elif len(customers) == 1 and not settings.keeps(customers[0]):
            return
        put, me = self._put, get_ident()
        if sum(list(put.values())) - self._taken + len(customers) > settings.waiting_rows:
            self.dropped += len(customers)
            return
        put[me] = put.get(me, 0) + len(customers)
        self._queue.append((self._clock(), batch))

    def start(self) -> None:
        """Begin to write, and to remove what is older than is kept (also without a share)."""
        if self._thread is not None:
            return
        self._stopping.clear()
        self._thread = threading.Thread(target=self._work, name="feature-log", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, and end."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        remove_at_s = time.monotonic()
        while not self._stopping.wait(_LOOK_EVERY_S):
            self._step()
            if time.monotonic() >= remove_at_s:
                remove_before(self._folder, (self._clock() - self._settings.keep).date())
                remove_at_s = time.monotonic() + _REMOVE_EVERY_S
        self._step(last=True)

    def _step(self, *, last: bool = False) -> None:
        """Take over what has come, and write what is due."""
        now_s = time.monotonic()
        while self._queue:
            at, batch = self._queue.popleft()
            self._gather(at, batch, now_s)
            self._taken += len(batch.customers)
        for version, waiting in list(self._waiting.items()):
            if last or self._due(waiting, now_s):
                del self._waiting[version]
                self._write(waiting)

    def _gather(self, at: datetime, batch: ScoredBatch, now_s: float) -> None:
        rows: Sequence[int] = range(len(batch.customers))
        if self._settings.by == "customer" and len(rows) > 1:
            rows = [row for row in rows if self._settings.keeps(batch.customers[row])]
        if not rows:
            return
        version = (batch.model, batch.version)
        waiting = self._waiting.setdefault(version, _Waiting(now_s))
        waiting.parts.append((at, batch, rows))
        waiting.rows += len(rows)
        # The whole matrix is held, whichever rows of it are kept.
        waiting.nbytes += batch.matrix.nbytes + 256 * len(rows)
        if self._due(waiting, now_s):
            del self._waiting[version]
            self._write(waiting)

    def _due(self, waiting: _Waiting, now_s: float) -> bool:
        settings = self._settings
        return (
            waiting.rows >= settings.file_rows
            or waiting.nbytes >= settings.file_bytes
            or now_s - waiting.since_s >= settings.file_age.total_seconds()
        )

    def _write(self, waiting: _Waiting) -> None:
        try:
            rows = self._remembered(_table(waiting.parts))
            if len(rows):
                _, batch, _ = waiting.parts[0]
                self._save(rows, batch)
            self.written += len(rows)
            self._failing = False
        except Exception as error:  # the disk's: serving goes on, and says so once
            self.dropped += waiting.rows
            if not self._failing:
                log.error("the feature log cannot be written, rows are dropped: %s", error)
            self._failing = True

    def _remembered(self, rows: pa.Table) -> pa.Table:
        forgotten = self._tombstones.read()
        if not forgotten:
            return rows
        customers = pa.concat_arrays(rows.column("customer").chunks)
        hidden = forgotten.hidden(customers, rows.column("at").cast(pa.int64()).to_numpy())
        return rows.filter(pa.array(~hidden))

    def _save(self, rows: pa.Table, batch: ScoredBatch) -> None:
        now = self._clock()
        name = f"{now:%H%M%S.%f}-{batch.version}-{os.getpid()}-{next(self._numbers)}.parquet"
        folder = self._folder / quote(batch.model, safe="") / f"date={now:%Y-%m-%d}"
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f".{name}.part"
        with unfinished.open("wb") as file:
            pq.write_table(rows, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(folder / name)


def columns_of(inputs: ModelInputs) -> list[str]:
    """Names of the vector's columns in the log: `view:feature`, an array's with their places.

    Not the bare feature's name: inputs of two views may share it.
    """
    return [
        f"{item.ref}[{place}]" if item.is_array else item.ref
        for item in inputs.inputs
        for place in range(item.width)
    ]


def _table(parts: Sequence[tuple[datetime, ScoredBatch, Sequence[int]]]) -> pa.Table:
    """Rows of one version as columns."""
    inputs: ModelInputs = parts[0][1].served.inputs
    matrix = np.concatenate([batch.matrix[list(rows)] for _, batch, rows in parts])
    columns: dict[str, Any] = {
        "at": _instants(at for at, _, rows in parts for _ in rows),
        "as_of": _instants(batch.at for _, batch, rows in parts for _ in rows),
        "request_id": pa.array(_each(parts, lambda b, _: b.request_id), pa.string()),
        "model": pa.array(_each(parts, lambda b, _: b.model), _CATEGORY),
        "version": pa.array(_each(parts, lambda b, _: b.version), _CATEGORY),
        "alias": pa.array(_each(parts, lambda b, _: b.alias), _CATEGORY),
        "customer": pa.array(_each(parts, lambda b, row: b.customers[row]), pa.string()),
        "corridor": pa.array(_each(parts, lambda b, row: b.corridors[row]), _CATEGORY),
        "counterparty": pa.array(_each(parts, lambda b, _: b.counterparty), pa.string()),
        "context": pa.array(_each(parts, lambda b, _: _json(b.context)), _CATEGORY),
        "score": pa.array(_each(parts, lambda b, row: b.scores[row]), pa.float64()),
        "prediction": pa.array(_each(parts, lambda b, row: b.predictions[row]), pa.float64()),
        "probability": pa.array(
            _each(parts, lambda b, row: b.probabilities[row] if b.probabilities else None),
            pa.float64(),
        ),
        "decision": pa.array(
            _each(parts, lambda b, row: _json(b.decisions[row]) if b.decisions else None),
            _CATEGORY,
        ),
        # A few patterns make up nearly all rows: kept once each.
        "statuses": pa.array(
            _each(parts, lambda b, row: bytes(b.statuses[row].json).decode()), _CATEGORY
        ),
    }
    for place, name in enumerate(columns_of(inputs)):
        columns[name] = pa.array(matrix[:, place])
    return pa.table(columns)


def _each(
    parts: Sequence[tuple[datetime, ScoredBatch, Sequence[int]]],
    value: Callable[[ScoredBatch, int], Any],
) -> Iterator[Any]:
    return (value(batch, row) for _, batch, rows in parts for row in rows)


def _instants(instants: Iterator[datetime]) -> pa.Array:
    return pa.array([to_epoch_us(at) for at in instants], pa.int64()).cast(TIMESTAMP)


def _json(value: msgspec.Struct | None) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def open_feature_log(settings: ServingSettings, clock: Callable[[], datetime]) -> FeatureLog:
    """The feature log that the settings declare; not started yet."""
    home = settings.shared.home
    tombstones = ForgottenFile(settings.shared.offline)
    return FeatureLog(home / "feature_log", settings.feature_log, tombstones, clock)
