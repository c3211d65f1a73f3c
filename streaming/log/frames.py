"""A frame: consecutive events of one log partition, and how customers map to partitions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import mmh3
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_repo.contracts.settings import SHARDS


@dataclass(frozen=True)
class Frame:
    """Events of `EVENT_SCHEMA` as they stand in one partition of the log.

    Attributes:
        partition: which partition.
        offset: position of the first event; rises within a partition.
        events: the events, in log order.
    """

    partition: int
    offset: int
    events: pa.RecordBatch


@dataclass(frozen=True)
class Unreadable:
    """An entry of the log that is no frame.

    Attributes:
        partition, offset: where it stands.
        content: what stands there, shortened.
        reason: what was expected.
    """

    partition: int
    offset: int
    content: str
    reason: str


class LogReader(Protocol):
    """Reads a log's frames, in order within each partition."""

    def poll(self) -> Sequence[Frame | Unreadable]:
        """Entries ready now, without blocking; empty when there are none.

        Raises:
            StopIteration: the log has an end and it has been reached.
        """

    def close(self) -> None:
        """Release files and connections."""


def shard_of(customer_id: str) -> int:
    """The shard of a customer: murmur3 (32 bit) modulo `SHARDS`. Storage format: never change.

    >>> shard_of("customer-1"), shard_of("customer-2")
    (4, 7)
    """
    return int(mmh3.hash(customer_id, signed=False)) % SHARDS


def shards_of(customer_ids: pa.Array) -> npt.NDArray[np.int64]:
    """The shard of each customer of an array; each distinct one is hashed once."""
    encoded = customer_ids.dictionary_encode()
    shards = np.fromiter(
        (shard_of(customer) for customer in encoded.dictionary.to_pylist()), np.int64
    )
    result: npt.NDArray[np.int64] = shards[encoded.indices.to_numpy()]
    return result


def split_by_shard(events: pa.RecordBatch) -> list[tuple[int, pa.RecordBatch]]:
    """Split a batch into one a shard, each in the order of the batch; empty shards are left out."""
    shards = shards_of(events.column("customer_id"))
    order = np.argsort(shards, kind="stable")
    # take() copies each shard's rows; a slice of the whole batch would drag all of it along.
    bounds = np.searchsorted(shards[order], np.arange(SHARDS + 1))
    return [
        (shard, events.take(pa.array(order[start:end])))
        for shard, (start, end) in enumerate(pairwise(bounds))
        if end > start
    ]
