"""Customers who are to be forgotten, as a stream meets them: told by tombstones, kept out by them.

A stream looks for new tombstones with every poll. One that it finds flows through it, in its place
among the events (`updates.Forgetting`): the states are dropped, the online values deleted after
what was written before, and every checkpoint that may name the customer begins anew. What the log
still has of before is not let in again, now or after a restart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from feature_repo.contracts.feature_set import EntityKey
from feature_repo.engine.program import Program
from feature_repo.stores.forgotten import Forgotten, ForgottenFile, place_of
from streaming.live_logs import Source
from streaming.log.frames import Frame, Partition, Unreadable, shard_of
from streaming.updates import Forgetting

CUSTOMER = "customer_id"  # the column of an event that says whose it is


def is_own(entity: EntityKey) -> bool:
    """Whether an entity's keys are customers."""
    return entity.columns == (CUSTOMER,)


def partitions_of(
    customer: str, programs: Mapping[str, Program], shards: int
) -> Iterator[tuple[Partition, bool]]:
    """The partitions whose checkpoints may name a customer, and whether the state is there.

    Of entities that customers share (counterparties) every one may: their features' events do.
    """
    for name, program in programs.items():
        if is_own(program.entity):
            yield (name, shard_of(customer, shards)), True
        elif CUSTOMER in program.frame_schema.names:
            for shard in range(shards):
                yield (name, shard), False


class Forgetter:
    """Finds new tombstones, and keeps out what they are of.

    Args:
        tombstones: of the offline store that the stream writes to.
        feature_set: its name.
        programs: by entity.
        shards: partitions of each entity's stream.
        log: that is read, as tombstones call it.
        owned: partitions whose states this process has.
    """

    def __init__(
        self,
        tombstones: ForgottenFile,
        *,
        feature_set: str,
        programs: Mapping[str, Program],
        shards: int,
        log: str,
        owned: Iterable[Partition],
    ) -> None:
        self._file = tombstones
        self._set = feature_set
        self._programs = programs
        self._shards = shards
        self._log = log
        self._owned = frozenset(owned)
        self._seen: Forgotten | None = None
        self._waiting: set[tuple[Partition, str]] = set()
        self._begun: set[tuple[str, int, Partition]] = set()

    def due(self, offsets: Mapping[Partition, int | None]) -> list[Forgetting]:
        """What is to be forgotten now; nothing is read before it has been put into the flow.

        Args:
            offsets: how far each partition has been read: what lies up to there counts no more.
        """
        found = self._file.read()
        if found is self._seen:
            return []
        customers: dict[tuple[Partition, bool], dict[str, str]] = {}
        for key, tombstone in found.pending.tombstones.items():
            if tombstone.customer is None:
                continue
            applied = tombstone.applied.get(self._set, ())
            for owned, own in partitions_of(tombstone.customer, self._programs, self._shards):
                mark = (key, tombstone.at_us, owned)
                if owned in self._owned and place_of(*owned) not in applied:
                    if mark in self._begun:
                        continue
                    self._begun.add(mark)
                    self._waiting.add((owned, key))
                    customers.setdefault((owned, own), {})[key] = tombstone.customer
        for (owned, _), names in customers.items():
            offset = offsets.get(owned)
            if offset is not None:
                self._file.raise_cut(names, self._log, place_of(*owned), offset)
        self._seen = self._file.read()
        return [Forgetting(owned, names, own) for (owned, own), names in customers.items()]

    def done(self, owned: Partition, keys: Iterable[str]) -> None:
        """A partition's checkpoint is without customers: tell whoever waits for it."""
        found = set(keys)
        self._file.mark_applied(self._set, place_of(*owned), found)
        self._waiting.difference_update((owned, key) for key in found)

    @property
    def waiting(self) -> bool:
        """Whether checkpoints still name somebody who has gone through the flow."""
        return bool(self._waiting)

    def let_in(self, entries: Sequence[Frame | Unreadable]) -> list[Frame | Unreadable]:
        """What of entries counts; offsets stay as they are."""
        if not self._seen:
            return list(entries)
        return without_forgotten(entries, self._seen, self._log)


def without_forgotten(
    entries: Iterable[Frame | Unreadable], forgotten: Forgotten, log: str
) -> list[Frame | Unreadable]:
    """Entries of a live log without events of before a customer was forgotten.

    A frame keeps its place and offset, also if nothing is left of it.
    """
    if not forgotten:
        return list(entries)
    return [
        _without(entry, forgotten, log) if isinstance(entry, Frame) else entry for entry in entries
    ]


def _without(frame: Frame, forgotten: Forgotten, log: str) -> Frame:
    events = frame.events
    if CUSTOMER not in events.schema.names or not len(events):
        return frame
    customers = events.column(CUSTOMER)
    try:
        customers.validate(full=True)
    except pa.ArrowInvalid:
        return frame  # admission sets it aside
    # An entry of Valkey is a frame. In Kafka an event may be a message: those of one partition
    # that come together are one frame under the last one's offset.
    offsets: int | np.ndarray[tuple[int], np.dtype[np.int64]] = frame.offset
    if log == Source.KAFKA:
        offsets = np.arange(frame.offset - len(events), frame.offset, dtype=np.int64) + 1
    gone = forgotten.cut(customers, offsets, log, frame.entity, frame.partition)
    if not gone.any():
        return frame
    kept = events.filter(pa.array(~gone))
    return Frame(frame.entity, frame.partition, frame.offset, kept)
