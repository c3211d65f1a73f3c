"""What flows through the dataflow: admitted events, what they changed, and marks between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_repo.engine.rows import FeatureRows
from streaming.log.frames import Partition


@dataclass(frozen=True)
class Admitted:
    """Events of one partition that features may take in; several frames of the log as one.

    Attributes:
        entity, partition: whose stream.
        first_offset, last_offset: of the first and the last frame that they come from (each the
            offset of the frame's last event).
        events: in the order of the log.
    """

    entity: str
    partition: int
    first_offset: int
    last_offset: int
    events: pa.RecordBatch


@dataclass(frozen=True)
class Update:
    """What admitted events changed.

    Attributes:
        admitted: the events.
        rows: the feature rows, not yet as Arrow.
        keys, states, times_us: online values, one a touched key, and their event times (µs).
        duplicates: events that had come before.
    """

    admitted: Admitted
    rows: FeatureRows
    keys: pa.StringArray
    states: pa.BinaryArray
    times_us: npt.NDArray[np.int64]
    duplicates: int


@dataclass(frozen=True)
class Snapshot:
    """A copy of one partition's whole state, after all updates before it in the flow.

    A copy made in steps comes twice: without the state where it is as of, and with it later.

    Attributes:
        state: see `Shard.snapshot`; None where the copying begins.
        written: set once the state is on disk.
        forgets: keys of the tombstones on whose account it is made: it then stands alone, without
            the bases and events before it.
        at_once: whether it is as of its place in the flow, in spite of a copy begun before.
    """

    owned: Partition
    state: dict[str, Any] | None = None
    written: Event = field(default_factory=Event, compare=False)
    forgets: tuple[str, ...] = ()
    at_once: bool = False


@dataclass(frozen=True)
class Forgetting:
    """Customers who are to be forgotten, at this place of the flow.

    Attributes:
        owned: a partition whose checkpoint may name them.
        customers: their names, by the keys of their tombstones.
        own: whether their states are in this partition, under their names; else their events
            alone are, among those since its last base.
    """

    owned: Partition
    customers: Mapping[str, str]
    own: bool


@dataclass(frozen=True)
class Position:
    """How far a partition has been read: last offset (None: nothing), newest log time (µs)."""

    offset: int | None
    watermark_us: int | None


@dataclass(frozen=True)
class Barrier:
    """Ends an epoch: what came before it in the flow can be committed together.

    Attributes:
        positions: of every partition that was read since the barrier before, as of here.
        last: whether the log has ended.
    """

    positions: Mapping[Partition, Position]
    last: bool = False
