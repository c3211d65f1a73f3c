"""Commits epochs, in a thread of its own: offline rows, then events, then the manifest.

The thread takes updates, snapshots and barriers in the order of the flow. At a barrier everything
before it, and nothing after it, has been given to the writers; it is committed in this order:

1. the online store has acknowledged every state of the epoch (asked for at the barrier), and
   nobody has started a new generation of it;
2. the offline files are on disk (files never span a checkpoint, as the next rows come later);
3. each partition's events of the epoch are on disk, or a base that holds them;
4. each partition's manifest takes the place of the one before.

A crash before 4 replays the epoch: fences and file names make that change nothing.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from feature_repo.engine.rows import FeatureRows, join_rows
from streaming.checkpoints import PartitionCheckpoint
from streaming.lineage import LogRun
from streaming.log.frames import Partition
from streaming.updates import Barrier, Position, Snapshot, Update

# Rows of updates that may wait.
WAITING_ROWS = 400_000
# Rows of a partition that become Arrow columns together: few rows take as long as these.
ROWS_TOGETHER = 4_096


class RowWriter(Protocol):
    """What takes offline rows (`streaming.sinks.offline.OfflineWriter`)."""

    def write(self, partition: int, first_offset: int, rows: pa.RecordBatch) -> None:
        """Take in rows."""

    def flush(self, partitions: Collection[int]) -> None:
        """Return when the rows of partitions are on disk."""


@dataclass(frozen=True)
class Commit:
    """A barrier on its way to the thread, and what waits until the states before it are stored."""

    barrier: Barrier
    online: Callable[[], None]


Item = Update | Snapshot | Commit


class Epochs:
    """The thread and what it writes to.

    Args:
        features: writers of offline rows, by entity.
        archive: writer of whole events, and the entity whose stream they are.
        checkpoints: of the partitions owned; empty if nothing is to be continued.
        run: the log that is read, and the generation of the values written.
        check: raises if the generation is no longer in force.
        keep_events: whether events are written between bases; without it (a replay, that can be
            run again) a partition's checkpoint is its last base.
        failed: told at once what made a commit fail: while nothing comes in, nobody asks.
        committed: called after each commit with the positions committed, in this thread.
        forgotten: called once a partition's checkpoint is without some customers, with the keys
            of their tombstones.

    Raises (from `put` and `close`): whatever made a commit fail.
    """

    def __init__(
        self,
        features: Mapping[str, RowWriter],
        archive: tuple[str, RowWriter],
        checkpoints: Mapping[Partition, PartitionCheckpoint],
        run: LogRun,
        *,
        check: Callable[[], None] = lambda: None,
        keep_events: bool = True,
        failed: Callable[[Exception], None] = lambda error: None,
        committed: Callable[[Mapping[Partition, Position]], None] = lambda positions: None,
        forgotten: Callable[[Partition, Collection[str]], None] = lambda owned, keys: None,
    ) -> None:
        self._features = features
        self._whole, self._archive = archive
        self._checkpoints = checkpoints
        self._run = run
        self._check = check
        self._keep_events = keep_events
        self._failed = failed
        self._committed = committed
        self._forgotten = forgotten
        self._forgets: dict[Partition, set[str]] = {}  # of bases that are not committed yet
        self._events: dict[Partition, list[pa.RecordBatch]] = {}
        self._rows_of: dict[Partition, tuple[int, list[FeatureRows]]] = {}
        self._begun: set[Partition] = set()  # bases whose copies are being made
        self._row_counts: Counter[Partition] = Counter()  # of `_rows_of`
        self._waiting: deque[tuple[Item, int]] = deque()
        self._rows = 0
        self._committing = self._closed = False
        self._changed = threading.Condition()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="epochs", daemon=True)
        self._thread.start()

    @property
    def committing(self) -> bool:
        """Whether a barrier waits or is being committed."""
        return self._committing

    def put(self, *items: Item) -> None:
        """Hand items over; waits while the thread is more than `WAITING_ROWS` behind."""
        with self._changed:
            self._changed.wait_for(lambda: self._rows < WAITING_ROWS or self._error)
            self._raise_error()
            for item in items:
                rows = _weight(item)
                self._committing = self._committing or isinstance(item, Commit)
                self._waiting.append((item, rows))
                self._rows += rows
            self._changed.notify_all()

    def close(self) -> None:
        """Return when everything handed over is done."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            while (waiting := self._next()) is not None:
                item, rows = waiting
                self._do(item)
                with self._changed:
                    self._rows -= rows
                    self._committing = self._committing and not isinstance(item, Commit)
                    self._changed.notify_all()
        except Exception as error:  # also raised by the next `put`: this thread has no caller
            self._failed(error)
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _next(self) -> tuple[Item, int] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return self._waiting.popleft() if self._waiting else None

    def _do(self, item: Item) -> None:
        match item:
            case Update():
                self._write_rows(item)
            case Snapshot():
                self._write_base(item)
            case Commit():
                self._commit(item)

    def _write_rows(self, update: Update) -> None:
        admitted = update.admitted
        whose = (admitted.entity, admitted.partition)
        if len(update.rows):
            self._rows_of.setdefault(whose, (admitted.first_offset, []))[1].append(update.rows)
            self._row_counts[whose] += len(update.rows)
            if self._row_counts[whose] >= ROWS_TOGETHER:
                self._hand_over(whose)
        if admitted.entity == self._whole:
            self._archive.write(admitted.partition, admitted.first_offset, admitted.events)
        if self._keep_events and self._checkpoints:
            owned = (admitted.entity, admitted.partition)
            self._events.setdefault(owned, []).append(admitted.events)

    def _hand_over(self, whose: Partition) -> None:
        """Give a partition's rows to its writer, those of many small updates as one."""
        first_offset, parts = self._rows_of.pop(whose)
        del self._row_counts[whose]
        entity, partition = whose
        self._features[entity].write(partition, first_offset, join_rows(parts).to_batch())

    def _write_base(self, snapshot: Snapshot) -> None:
        checkpoint = self._checkpoints[snapshot.owned]
        if snapshot.at_once and snapshot.state is not None:
            self._begun.discard(snapshot.owned)
            self._events.pop(snapshot.owned, None)
            checkpoint.begin_anew(snapshot.state)
            self._forgets.setdefault(snapshot.owned, set()).update(snapshot.forgets)
            return
        if snapshot.state is None:
            self._write_events(snapshot.owned)  # for the case that the base goes bad
            checkpoint.begin_base()
            self._begun.add(snapshot.owned)
            return
        if snapshot.owned not in self._begun:
            self._write_events(snapshot.owned)
        self._begun.discard(snapshot.owned)
        alone = bool(snapshot.forgets) or not self._keep_events
        checkpoint.add_base(snapshot.state, alone=alone)
        if snapshot.forgets:
            self._forgets.setdefault(snapshot.owned, set()).update(snapshot.forgets)
        snapshot.written.set()

    def _write_events(self, owned: Partition) -> None:
        batches = self._events.pop(owned, [])
        if batches:
            self._checkpoints[owned].add_delta(batches)

    def _commit(self, commit: Commit) -> None:
        commit.online()
        self._check()
        for whose in self._rows_of.keys() & commit.barrier.positions.keys():
            self._hand_over(whose)
        for entity, writer in ((self._whole, self._archive), *self._features.items()):
            writer.flush([number for of, number in commit.barrier.positions if of == entity])
        for owned, position in commit.barrier.positions.items():
            checkpoint = self._checkpoints.get(owned)
            if checkpoint is None:
                continue
            self._write_events(owned)
            checkpoint.commit(
                self._run.log, self._run.generation, position.offset, position.watermark_us
            )
        self._committed(commit.barrier.positions)
        for owned in self._forgets.keys() & commit.barrier.positions.keys():
            self._checkpoints[owned].sweep()
            self._forgotten(owned, self._forgets.pop(owned))


def _weight(item: Item) -> int:
    return len(item.admitted.events) if isinstance(item, Update) else 0
