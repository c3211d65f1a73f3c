"""A frame: consecutive events of one log partition, and how keys map to partitions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import mmh3
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_repo.contracts.settings import SHARDS
from feature_repo.engine.hashing import hash32

# One partitioned stream an entity kind: (entity, partition).
Partition = tuple[str, int]
# Partition -> the offset to resume after, None for the oldest entry kept.
Positions = Mapping[Partition, int | None]
# A frame merged of smaller ones stops growing here.
MERGED_ROWS = 65_536


@dataclass(frozen=True)
class Frame:
    """Events as they stand in one partition of the log.

    The stream of a set's first entity carries whole events (`EVENT_SCHEMA`), the others the
    columns of `EVENT_SCHEMA` that their features need.

    Attributes:
        entity: whose stream, by the entity's name.
        partition: which partition of it.
        offset: position of the *last* event: reading resumed after it goes on with the next.
            Rises within (entity, partition).
        events: the events, in log order.

    Trap: the same events may come in frames of other sizes after a restart.
    """

    entity: str
    partition: int
    offset: int
    events: pa.RecordBatch


@dataclass(frozen=True)
class Unreadable:
    """An entry of the log that is no frame and no event.

    Attributes:
        entity, partition, offset: where it stands.
        content: what stands there, shortened.
        reason: what was expected.
    """

    entity: str
    partition: int
    offset: int
    content: str
    reason: str


class LogReader(Protocol):
    """Reads the partitions it was made for, in order within each.

    Attributes:
        gone: entries that were no longer kept when a partition was read from its beginning;
            partitions that miss none are not in it. Known after the first poll that found the
            log.
    """

    gone: dict[Partition, int]

    def poll(self) -> Sequence[Frame | Unreadable]:
        """Entries ready now, without blocking; empty when there are none.

        Raises:
            StopIteration: the log has an end and it has been reached, or reading was stopped.
            LogGapError: entries after the offset to resume after are gone.
            StoreUnavailableError: the log does not answer.
        """

    def close(self) -> None:
        """Release files and connections."""


class EventLog(Protocol):
    """What events are appended to."""

    def append(self, events: pa.RecordBatch) -> int:
        """Append a batch of `EVENT_SCHEMA`; returns its number of events once the log has them.

        Raises:
            DeliveryError: some were not confirmed; it says which.
        """

    def close(self) -> None:
        """Release files and connections."""


def shard_of(key: str, shards: int = SHARDS) -> int:
    """The shard of a key: murmur3 (32 bit) modulo `shards`. Storage format: never change.

    >>> shard_of("customer-1", 8), shard_of("customer-2", 8)
    (4, 7)
    """
    return int(mmh3.hash(key, signed=False)) % shards


def shards_of(keys: pa.StringArray, shards: int = SHARDS) -> npt.NDArray[np.int64]:
    """The shard of each key, as `shard_of`; a null's is the empty text's.

    >>> shards_of(pa.array(["customer-1", "customer-2"]), 8).tolist()
    [4, 7]
    """
    return (hash32(keys) % np.uint32(shards)).astype(np.int64)


def split_by_shard(
    events: pa.RecordBatch, keys: pa.StringArray, shards: int = SHARDS
) -> list[tuple[int, pa.RecordBatch]]:
    """Split a batch into one a shard, each in the order of the batch; empty shards are left out.

    Args:
        events: n events.
        keys: their n keys.
        shards: how many shards there are.

    Trap: the parts share one copy of the rows: one part alone keeps all of it in memory.
    """
    if not len(events):
        return []
    found = shards_of(keys, shards).astype(np.uint16)
    if (found == found[0]).all():
        return [(int(found[0]), events)]
    order = np.argsort(found, kind="stable")
    sorted_events = events.take(pa.array(order))
    bounds = np.searchsorted(found[order], np.arange(shards + 1))
    return [
        (shard, sorted_events.slice(start, end - start))
        for shard, (start, end) in enumerate(pairwise(bounds.tolist()))
        if end > start
    ]


def merge_frames(
    entries: Iterable[Frame | Unreadable], rows: int = MERGED_ROWS
) -> list[Frame | Unreadable]:
    """Join neighbouring frames of one partition, up to about `rows` events each.

    For who works through frames one by one: a producer of single events writes tiny ones.
    """
    merged: list[Frame | Unreadable] = []
    run: list[Frame] = []
    held = 0  # events in the run: counted anew for each entry, thousands would take seconds
    for entry in entries:
        if not (run and isinstance(entry, Frame) and _joins(run[0], held, entry, rows)):
            _flush(run, merged)
            run, held = [], 0
        if isinstance(entry, Frame):
            run.append(entry)
            held += len(entry.events)
        else:
            merged.append(entry)
    _flush(run, merged)
    return merged


def _joins(first: Frame, held: int, entry: Frame, rows: int) -> bool:
    return (
        (first.entity, first.partition) == (entry.entity, entry.partition)
        and held + len(entry.events) <= rows
        and first.events.schema.equals(entry.events.schema)
    )


def _flush(run: list[Frame], merged: list[Frame | Unreadable]) -> None:
    if len(run) == 1:
        merged.append(run[0])
    elif run:
        last = run[-1]
        events = pa.concat_batches([frame.events for frame in run])
        merged.append(Frame(last.entity, last.partition, last.offset, events))
