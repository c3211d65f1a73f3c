"""The Bytewax dataflow, wiring only: log -> features -> what the stores and checkpoints take.

Events travel as Arrow batches, one a partition of an entity's stream, and the process owns every
partition that it reads: nothing is exchanged, and states are kept by `Features`, not by Bytewax's
recovery (docs/adr/0001-shards-not-customers.md has the measurements).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Protocol

import bytewax.operators as op
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition

from feature_repo.contracts.feature_set import EntityKey
from feature_repo.engine.shard import Shard
from streaming.epochs import Commit, Epochs
from streaming.failure import Failure
from streaming.log.frames import Partition
from streaming.source import LogSource
from streaming.updates import Admitted, Barrier, Snapshot, Update

# Events of a partition folded since its last base, after which a restart would take too long:
# 0.2 s of folding, of each of 8 partitions.
REBASE_EVENTS = 125_000
# And epochs, each a file: a quiet stream is rebased about once in ten minutes.
REBASE_EPOCHS = 60
# Copying one partition's state delays the stream by up to 40 ms, so two copies are apart.
_REBASES_AN_EPOCH = 10


class Rebase:
    """Chooses when which partition's state is copied whole, one at a time.

    Args:
        epoch: time from one barrier to the next.
        events: folded since the last base of each partition, from its checkpoint.
        most: such events, after which a partition is copied.
    """

    def __init__(
        self, epoch: timedelta, events: Mapping[Partition, int], most: int = REBASE_EVENTS
    ) -> None:
        self._events = dict(events)
        self._most = most
        self._epochs = dict.fromkeys(events, 0)
        self._apart_s = epoch.total_seconds() / _REBASES_AN_EPOCH
        self._next_s = 0.0

    def folded(self, owned: Partition, events: int) -> None:
        """Count events."""
        self._events[owned] = self._events.get(owned, 0) + events

    def epoch_ended(self) -> None:
        """Count an epoch, for every partition that has had events since its base."""
        for owned, events in self._events.items():
            self._epochs[owned] = self._epochs.get(owned, 0) + bool(events)

    def due(self, now_s: float) -> Partition | None:
        """The partition to copy now, if any."""
        if now_s < self._next_s:
            return None
        due = [
            owned
            for owned, events in self._events.items()
            if events >= self._most or self._epochs.get(owned, 0) >= REBASE_EPOCHS
        ]
        if not due:
            return None
        self._next_s = now_s + self._apart_s
        chosen = max(due, key=lambda owned: (self._events[owned], owned))
        self._events[chosen] = self._epochs[chosen] = 0
        return chosen


class Features:
    """The states of the partitions owned; folds what is admitted.

    Args:
        shards: one a partition owned.
        rebase: when states are copied; None: never before the end of the log.
        copy_at_end: whether all states are copied once the log has ended.
        failure: nothing is folded after it.
    """

    def __init__(
        self,
        shards: Mapping[Partition, Shard],
        rebase: Rebase | None,
        failure: Failure,
        *,
        copy_at_end: bool = False,
    ) -> None:
        self._shards = shards
        self._rebase = rebase
        self._copy_at_end = copy_at_end
        self._failure = failure

    def __call__(self, items: list[Admitted | Barrier]) -> Iterable[Update | Snapshot | Barrier]:
        """Updates in the order of the events, and the copies that are due."""
        made: list[Update | Snapshot | Barrier] = []
        with self._failure.noted():
            self._failure.check()
            for item in items:
                if isinstance(item, Admitted):
                    made.append(self._fold(item))
                else:
                    made += self._end_epoch(item)
            if self._rebase and (owned := self._rebase.due(time.monotonic())):
                made.append(self._copy(owned))
        return made

    def _fold(self, admitted: Admitted) -> Update:
        owned = (admitted.entity, admitted.partition)
        folded = self._shards[owned].fold(admitted.events)
        if self._rebase:
            self._rebase.folded(owned, len(admitted.events))
        return Update(
            admitted,
            folded.feature_rows,
            folded.keys,
            folded.states,
            folded.times_us,
            folded.duplicates,
        )

    def _end_epoch(self, barrier: Barrier) -> Iterable[Snapshot | Barrier]:
        if self._rebase:
            self._rebase.epoch_ended()
        if barrier.last and self._copy_at_end:
            yield from map(self._copy, self._shards)
        yield barrier

    def _copy(self, owned: Partition) -> Snapshot:
        return Snapshot(owned, self._shards[owned].snapshot())


class StateWriter(Protocol):
    """What takes online states (`streaming.sinks.online.OnlineWriter`)."""

    def write(  # noqa: PLR0917 - one update's parts
        self,
        entity: EntityKey,
        generation: int,
        offset: int,
        keys: pa.StringArray,
        states: pa.BinaryArray,
        times_us: npt.NDArray[np.int64],
    ) -> None:
        """Take in states of distinct keys."""

    def mark(self) -> Callable[[], None]:
        """A function that returns once everything taken in so far is stored."""

    def close(self) -> None:
        """Return when everything is stored."""


class _StoresPartition(StatelessSinkPartition[Update | Snapshot | Barrier]):
    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def write_batch(self, items: list[Update | Snapshot | Barrier]) -> None:
        for item in items:
            with self._stores.failure.noted():
                self._stores.failure.check()
                self._stores.take(item)

    def close(self) -> None:
        with self._stores.failure.noted():
            self._stores.close()


class Stores(DynamicSink[Update | Snapshot | Barrier]):
    """Both stores and the checkpoints, in the order of the flow.

    Args:
        entities: of the set, by name.
        generation: of the values written.
        online: takes states at once.
        epochs: takes everything else, and commits.
        failure: nothing is taken after it.
        folded: called with each update, for counts.
    """

    def __init__(
        self,
        entities: Mapping[str, EntityKey],
        generation: int,
        online: StateWriter,
        epochs: Epochs,
        failure: Failure,
        *,
        folded: Callable[[Update], None] = lambda update: None,
    ) -> None:
        self._entities = entities
        self._generation = generation
        self._online = online
        self._epochs = epochs
        self.failure = failure
        self._folded = folded

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _StoresPartition:
        """One worker a process: the writers are its own."""
        return _StoresPartition(self)

    def take(self, item: Update | Snapshot | Barrier) -> None:
        """Hand an item to the writers."""
        match item:
            case Update():
                if len(item.keys):
                    self._online.write(
                        self._entities[item.admitted.entity],
                        self._generation,
                        # The last: with the first one's, a replay cut into other frames could
                        # put an older state over this one.
                        item.admitted.last_offset,
                        item.keys,
                        item.states,
                        item.times_us,
                    )
                self._folded(item)
                self._epochs.put(item)
            case Snapshot():
                self._epochs.put(item)
            case Barrier():
                # While a slow disk still commits the epoch before, this one goes on.
                if item.last or not self._epochs.committing:
                    self._epochs.put(Commit(item, self._online.mark()))

    def close(self) -> None:
        """Return when everything is stored and committed."""
        try:
            self._epochs.close()
        finally:
            self._online.close()


def build_dataflow(source: LogSource, features: Features, stores: Stores) -> Dataflow:
    """Wire a log to the stores."""
    flow = Dataflow("daima_features")
    admitted = op.input("log", flow, source)
    updates = op.flat_map_batch("features", admitted, features)
    op.output("stores", updates, stores)
    return flow
