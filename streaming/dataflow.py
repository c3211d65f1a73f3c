"""The Bytewax dataflow, wiring only: log -> features -> what the stores and checkpoints take.

Events travel as Arrow batches, one a partition of an entity's stream, and the process owns every
partition that it reads: nothing is exchanged, and states are kept by `Features`, not by Bytewax's
recovery (docs/adr/0001-shards-not-customers.md has the measurements).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import groupby
from typing import Protocol, cast

import bytewax.operators as op
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition

from feature_repo.contracts.feature_set import EntityKey
from feature_repo.engine.shard import Shard
from feature_repo.engine.together import fold_together
from streaming.epochs import Commit, Epochs
from streaming.failure import Failure
from streaming.log.frames import Partition
from streaming.rebase import Rebase
from streaming.source import LogSource
from streaming.updates import Admitted, Barrier, Forgetting, Snapshot, Update

# What comes out of the source, and what goes to the stores beside updates.
Item = Admitted | Barrier | Forgetting
Mark = Snapshot | Barrier | Forgetting


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

    def __call__(self, items: list[Item]) -> Iterable[Update | Mark]:
        """Updates in the order of the events, and the copies that are due."""
        made: list[Update | Mark] = []
        with self._failure.noted():
            self._failure.check()
            for entity, group in groupby(items, _entity_of):
                if entity is None:
                    for item in group:
                        if isinstance(item, Forgetting):
                            made += self._forget(item)
                        else:
                            made += self._end_epoch(cast(Barrier, item))
                else:
                    made += self._fold(cast(list[Admitted], list(group)))
            if self._rebase:
                made += self._rebase.step(self._shards)
        return made

    def _fold(self, batches: list[Admitted]) -> Iterator[Update]:
        """Fold batches of one entity."""
        shards = [self._shards[admitted.entity, admitted.partition] for admitted in batches]
        if len(batches) == 1:
            made = [shards[0].fold(batches[0].events)]
        else:
            made = fold_together(shards, [admitted.events for admitted in batches])
        for admitted, folded in zip(batches, made, strict=True):
            if self._rebase:
                owned = (admitted.entity, admitted.partition)
                self._rebase.folded(owned, len(admitted.events))
            yield Update(
                admitted,
                folded.feature_rows,
                folded.keys,
                folded.states,
                folded.times_us,
                folded.duplicates,
            )

    def _end_epoch(self, barrier: Barrier) -> Iterable[Snapshot | Barrier]:
        if self._rebase:
            self._rebase.epoch_ended(barrier.positions)
        if barrier.last and self._copy_at_end:
            yield from map(self._copy, self._shards)
        yield barrier

    def _forget(self, forgetting: Forgetting) -> Iterable[Forgetting | Snapshot]:
        """Drop customers' states here and now; their events elsewhere go with the next base."""
        owned, keys = forgetting.owned, tuple(forgetting.customers)
        if not forgetting.own:
            if self._rebase:
                self._rebase.forget(owned, keys)
            return
        shard = self._shards[owned]
        for customer in forgetting.customers.values():
            shard.forget(customer)
        yield forgetting
        yield Snapshot(owned, shard.snapshot(), forgets=keys, at_once=True)

    def _copy(self, owned: Partition) -> Snapshot:
        return Snapshot(owned, self._shards[owned].snapshot())


def _entity_of(item: Item) -> str | None:
    return item.entity if isinstance(item, Admitted) else None


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

    def forget(self, entity: EntityKey, keys: Iterable[str]) -> None:
        """Delete all that stands under keys, after everything taken in so far."""

    def together(self) -> AbstractContextManager[None]:
        """What is taken in within is written as one."""

    def mark(self) -> Callable[[], None]:
        """A function that returns once everything taken in so far is stored."""

    def close(self) -> None:
        """Return when everything is stored."""


class _StoresPartition(StatelessSinkPartition[Update | Mark]):
    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def write_batch(self, items: list[Update | Mark]) -> None:
        with self._stores.failure.noted():
            self._stores.failure.check()
            self._stores.take(*items)

    def close(self) -> None:
        with self._stores.failure.noted():
            self._stores.close()


class Stores(DynamicSink[Update | Mark]):
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

    def take(self, *items: Update | Mark) -> None:
        """Hand items to the writers, in their order."""
        for updated, group in groupby(items, lambda item: isinstance(item, Update)):
            if updated:
                self._write(cast(list[Update], list(group)))
            else:
                for item in group:
                    self._mark(cast(Mark, item))

    def _write(self, updates: list[Update]) -> None:
        with self._online.together():
            for update in updates:
                if len(update.keys):
                    self._online.write(
                        self._entities[update.admitted.entity],
                        self._generation,
                        # The last: with the first one's, a replay cut into other frames could
                        # put an older state over this one.
                        update.admitted.last_offset,
                        update.keys,
                        update.states,
                        update.times_us,
                    )
        for update in updates:
            self._folded(update)
        self._epochs.put(*updates)

    def _mark(self, item: Mark) -> None:
        if isinstance(item, Snapshot):
            self._epochs.put(item)
        elif isinstance(item, Forgetting):
            self._online.forget(self._entities[item.owned[0]], item.customers.values())
        else:
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
