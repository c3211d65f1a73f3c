"""One process's share of a backfill: folds events from the first on, writes what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_repo.contracts.feature_set import FeatureSet
from feature_repo.stores.event_history import plain
from streaming.backfill.feature_rows import FeatureRows
from streaming.backfill.parts import Job, Parts, rows_file
from streaming.backfill.source import Source
from streaming.lateness import LatenessGate
from streaming.mapping.dead_letters import DeadLetter, DeadLetters

Progress = Callable[[int], None]


class BackfillReport(msgspec.Struct):
    """What a backfill did.

    Attributes:
        events: events read, those of parts that were there already included.
        rows: rows written.
        late: events that came too late and have no row.
        parts, parts_kept: parts written, and parts that were there already.
        seconds: wall-clock time.
    """

    events: int = 0
    rows: int = 0
    late: int = 0
    parts: int = 0
    parts_kept: int = 0
    seconds: float = 0.0

    @property
    def events_per_s(self) -> float:
        """Events a second over the whole run."""
        return self.events / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Share:
    """The parts that one process writes.

    Attributes:
        out: the job's folder.
        which: of the job's processes, from 0.
        letters: file of the events that came too late; None drops them.
    """

    source: Source
    feature_set: FeatureSet
    out: Path
    job: Job
    which: int = 0
    letters: Path | None = None

    def write(self, progress: Progress) -> BackfillReport:
        """Write the parts that are not there; `progress` gets the number of events just read."""
        parts = Parts(self.out, self.job, self.which)
        missing = parts.missing(self.source.events)
        report = BackfillReport(parts_kept=parts.expected(self.source.events) - len(missing))
        if not missing:
            report.events = self.source.events
            progress(report.events)
            return report
        letters = DeadLetters(self.letters) if self.letters is not None else None
        with letters or nullcontext():
            self._fold(parts, missing, _LateLetters(self.feature_set, letters, report), progress)
        return report

    def _fold(
        self, parts: Parts, missing: list[int], late: _LateLetters, progress: Progress
    ) -> None:
        size, report = self.job.part_events, late.report
        rows = FeatureRows(self.feature_set, (self.which, self.job.processes))
        shares = self.job.processes
        batches = self.source.batches(rows.columns, self.feature_set, late, shares=shares)
        cut = _Cut(batches, size)
        with _Finishing(parts) as finishing:
            for first in range(0, missing[-1] + 1, size):
                wanted = first in missing
                path = parts.unfinished(first)
                with rows_file(path, rows.schema) if wanted else nullcontext() as writer:
                    for events in cut.part():
                        if writer is None:
                            rows.skip(events)
                        else:
                            computed = rows.fold(events)
                            report.rows += len(computed)
                            if len(computed):
                                writer.write_batch(computed)
                        report.events += len(events)
                        progress(len(events))
                if wanted:
                    finishing.add(first)
                    report.parts += 1


class _Finishing:
    """Waits for the disk while the next part is computed; that takes no core."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._thread = ThreadPoolExecutor(1, "finish-part")
        self._last: Future[None] | None = None

    def add(self, first: int) -> None:
        """Finish one part, as soon as the one before is.

        Raises:
            OSError: the part before could not be.
        """
        self._wait()
        self._last = self._thread.submit(self._parts.finish, first)

    def _wait(self) -> None:
        if self._last is not None:
            self._last.result()

    def __enter__(self) -> _Finishing:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._thread.shutdown()
        if kind is None:
            self._wait()


class _Cut:
    """Batches cut where parts begin."""

    def __init__(self, batches: Iterator[pa.RecordBatch], part_events: int) -> None:
        self._batches = batches
        self._part_events = part_events
        self._rest: pa.RecordBatch | None = None

    def part(self) -> Iterator[pa.RecordBatch]:
        """The batches of the next part; none after the end."""
        room = self._part_events
        while room:
            batch = self._rest if self._rest is not None else next(self._batches, None)
            if batch is None:
                return
            yield batch.slice(0, room)
            self._rest = batch.slice(room) if len(batch) > room else None
            room -= min(room, len(batch))


class _LateLetters:
    """Counts late events and makes dead letters of them."""

    def __init__(
        self, feature_set: FeatureSet, letters: DeadLetters | None, report: BackfillReport
    ) -> None:
        self.report = report
        self._reason = LatenessGate(feature_set.lateness).late_reason
        self._letters = letters

    def __call__(self, events: pa.RecordBatch, rows: npt.NDArray[np.int64]) -> None:
        self.report.late += len(events)
        if self._letters is None:
            return
        self._letters.extend(
            DeadLetter(row + 1, "event_time", record["event_time"], self._reason, record)
            for row, record in zip(rows.tolist(), plain(events).to_pylist(), strict=True)
        )
