"""What the tests of all logs do with their readers."""

from __future__ import annotations

import time
from collections.abc import Iterable

import pyarrow as pa

from feature_repo.contracts.feature_set import load_feature_set
from feature_repo.contracts.settings import SHARDS
from streaming.log.entity_frames import EntityFrames
from streaming.log.frames import Frame, LogReader, Partition, Unreadable

FEATURE_SET = load_feature_set()
_WITHIN_S = 20.0


def all_partitions(
    offsets: dict[Partition, int] | None = None, shards: int = SHARDS
) -> dict[Partition, int | None]:
    """Every partition of the default set, after the offsets given."""
    every = [(entity.name, at) for entity in FEATURE_SET.entities for at in range(shards)]
    return {key: (offsets or {}).get(key) for key in every}


def read_until(reader: LogReader, expected: int) -> list[Frame | Unreadable]:
    """Poll until so many events (of all entities) and unreadable entries have come, and no more."""
    read: list[Frame | Unreadable] = []
    give_up_s = time.monotonic() + _WITHIN_S
    quiet = 0
    while quiet < 10:
        entries = list(reader.poll())
        read += entries
        count = sum(_weight(entry) for entry in read)
        quiet = quiet + 1 if count >= expected and not entries else 0
        if not entries:
            time.sleep(0.02)
        assert time.monotonic() < give_up_s, f"{count} of {expected} events after 20 s"
    return read


def _weight(entry: Frame | Unreadable) -> int:
    return 1 if isinstance(entry, Unreadable) else len(entry.events)


def rows_in_log(events: pa.RecordBatch) -> int:
    """How many events a log holds of a batch, those of all entities together."""
    return sum(len(rows) for _, rows in EntityFrames(FEATURE_SET).split(events))


def read_to_end(reader: LogReader) -> list[Frame]:
    """All frames of a log that ends."""
    frames: list[Frame] = []
    while True:
        try:
            entries = reader.poll()
        except StopIteration:
            return frames
        frames += [entry for entry in entries if isinstance(entry, Frame)]


def frames_of(entries: Iterable[Frame | Unreadable], entity: str = "customer") -> list[Frame]:
    """The frames of an entity."""
    return [entry for entry in entries if isinstance(entry, Frame) and entry.entity == entity]


def rows_of(entries: Iterable[Frame | Unreadable], entity: str = "customer") -> pa.Table:
    """The events of an entity's frames, by event id."""
    return pa.Table.from_batches([frame.events for frame in frames_of(entries, entity)]).sort_by(
        "event_id"
    )


def ids_by_partition(entries: Iterable[Frame | Unreadable]) -> dict[Partition, list[str]]:
    """The event ids of every partition, in the order read."""
    found: dict[Partition, list[str]] = {}
    for entry in entries:
        assert isinstance(entry, Frame)
        ids = found.setdefault((entry.entity, entry.partition), [])
        ids += entry.events.column("event_id").to_pylist()
    return found


def last_offsets(entries: Iterable[Frame | Unreadable]) -> dict[Partition, int]:
    """The offset of every partition's last entry; they rise within a partition."""
    offsets: dict[Partition, int] = {}
    for entry in entries:
        key = entry.entity, entry.partition
        assert entry.offset > offsets.get(key, -1)
        offsets[key] = entry.offset
    return offsets
