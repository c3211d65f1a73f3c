"""Where a model that learns from the stream reads it: the archive, an event file, a live log.

Each gives (partition, events) batch by batch, in the order in which the log was written; memory
grows with the batches, not with the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo.contracts.events import OUTSIDE_SESSION, TIMESTAMP, EventType, to_epoch_us
from feature_repo.contracts.feature_set import FeatureSet
from feature_repo.contracts.features import CUSTOMER
from feature_repo.contracts.settings import Settings
from feature_repo.engine.program import Program, compile_program
from feature_repo.engine.projection import is_type, log_times_us
from feature_repo.stores.forgotten import ForgottenFile
from streaming.log.files import FileLogReader
from streaming.log.frames import Frame, LogReader, Unreadable
from streaming.log.reading import until_quiet
from training.archive import archive_files, unreadable

Batches = Iterator[tuple[int, pa.RecordBatch]]
# Opens the log at its beginning: it may be read more than once.
Log = Callable[[], Batches]

ROWS = 65_536
# A device's clock runs ahead by this much at most: the dataflow's bound.
_ALLOWED_AHEAD = timedelta(hours=1)


def archive_log(
    settings: Settings, feature_set: FeatureSet, end: datetime | None = None, rows: int = ROWS
) -> Log:
    """The archive of events as one log.

    The partitions of all generations are merged by when each knew its events, so that no event is
    read before one that was known earlier. Events after `end` are not read, nor are types that
    neither belong to a session nor to a feature, nor customers whose forgetting is under way.

    Its files are listed once: what a stream adds meanwhile is not read, however often it is opened.

    Raises:
        DatasetError: there is no archive; on reading, a file in it is another's.
    """
    program = compile_program(feature_set, feature_set.entity(CUSTOMER.name))
    by_partition: dict[str, list[Path]] = {}
    for file in archive_files(settings):
        by_partition.setdefault(file.stem.rpartition("-")[0], []).append(file)

    def batches() -> Batches:
        streams = [_stream(settings, files, program, end, rows) for files in by_partition.values()]
        for merged in _merged(streams):
            yield 0, merged

    return batches


def file_log(path: Path, feature_set: FeatureSet, rows: int = ROWS) -> Log:
    """An event file, or a folder of them, as one log.

    Raises (on reading):
        InputError: it is none.
    """

    def batches() -> Batches:
        # In one partition: the file's own order is that in which its events were known.
        reader = FileLogReader(path, feature_set, {(CUSTOMER.name, 0): None}, rows, shards=1)
        yield from _frames(reader, _to_the_end(reader))

    return batches


def live_batches(
    reader: LogReader,
    quiet_s: float,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Batches:
    """Customers' events of a live log (Valkey, Kafka), until no more than a trickle comes.

    The reader is closed afterwards. Events from ahead of the clock are left out, as the dataflow
    leaves them out: one of them would make all that follow late.

    Args:
        quiet_s: for how long no more than a trickle must have come.

    Trap: each partition has its own time. One that is read ahead of another teaches what was not
    known yet in that other's time.
    """
    for partition, events in _frames(reader, until_quiet(reader, quiet_s)):
        limit_us = to_epoch_us(now() + _ALLOWED_AHEAD)
        happened = events.column("event_time").cast(pa.int64()).to_numpy()
        timely = np.maximum(log_times_us(events), happened) <= limit_us
        yield partition, events if timely.all() else events.filter(pa.array(timely))


def _frames(reader: LogReader, polls: Iterable[Sequence[Frame | Unreadable]]) -> Batches:
    try:
        for entries in polls:
            for entry in entries:
                if isinstance(entry, Frame) and entry.entity == CUSTOMER.name:
                    yield entry.partition, entry.events
    finally:
        reader.close()


def _to_the_end(reader: LogReader) -> Iterator[Sequence[Frame | Unreadable]]:
    while True:
        try:
            yield reader.poll()
        except StopIteration:
            return


def _stream(
    settings: Settings, files: list[Path], program: Program, end: datetime | None, rows: int
) -> Iterator[pa.RecordBatch]:
    """The events of one partition that are wanted, in its order."""
    names = program.frame_schema.names
    wanted = program.event_types | (frozenset(EventType) - OUTSIDE_SESSION)
    hidden = ForgottenFile(settings.offline).read().pending
    for file in files:
        try:
            with pq.ParquetFile(file) as opened:
                for batch in opened.iter_batches(rows, columns=names):
                    events = batch.select(names).cast(program.frame_schema)
                    kept = is_type(events, wanted)
                    times = events.column("event_time")
                    if end is not None:
                        kept &= pc.less_equal(times, pa.scalar(end, TIMESTAMP)).to_numpy(
                            zero_copy_only=False
                        )
                    if hidden:
                        times_us = times.cast(pa.int64()).to_numpy()
                        kept &= ~hidden.hidden(events.column("customer_id"), times_us)
                    if kept.any():
                        yield events.filter(pa.array(kept))
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            raise unreadable(settings, names, error) from error


@dataclass
class _Head:
    """The next events of a partition, with the newest log time up to each."""

    events: pa.RecordBatch
    newest: npt.NDArray[np.int64]


def _merged(streams: list[Iterator[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
    """Merge partitions by the newest log time up to each event; one's own order stays."""
    waiting = dict(enumerate(streams))
    heads: dict[int, _Head] = {}
    newest_of = dict.fromkeys(waiting, np.iinfo(np.int64).min)
    while True:
        for number in [number for number in waiting if number not in heads]:
            batch = next(waiting[number], None)
            if batch is None:
                del waiting[number]
                continue
            known = log_times_us(batch)
            newest = np.maximum.accumulate(np.append(newest_of[number], known))[1:]
            newest_of[number] = int(newest[-1])
            heads[number] = _Head(batch, newest)
        if not heads:
            return
        # Up to here every partition has been read.
        limit = min(head.newest[-1] for head in heads.values())
        parts, newest_parts = [], []
        for number, head in list(heads.items()):
            count = int(np.searchsorted(head.newest, limit, side="right"))
            parts.append(head.events.slice(0, count))
            newest_parts.append(head.newest[:count])
            if count == len(head.events):
                del heads[number]
            else:
                heads[number] = _Head(head.events.slice(count), head.newest[count:])
        if len(parts) == 1:
            yield parts[0]
            continue
        order = np.argsort(np.concatenate(newest_parts), kind="stable")
        yield pa.concat_batches(parts).take(pa.array(order))
