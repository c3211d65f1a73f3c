"""What stands in Kafka's messages: JSON events, decoded many at a time, and Arrow frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from streaming.log.arrow_frames import MARKER, decode_frame
from streaming.log.frames import Frame, Partition, Unreadable
from streaming.log.json_events import decode_events

_SHOWN = 500


def decode_messages(
    partitions: Sequence[Partition], offsets: Sequence[int], values: Sequence[bytes]
) -> Iterator[Frame | Unreadable]:
    """The entries in n messages, those of a partition in their order; payloads may mix.

    JSON texts are decoded across partitions, since each call costs as much as a hundred events.
    Whatever stands in them, nothing is raised.

    Args:
        partitions, offsets: where each message stands; a partition's offsets rise.
        values: what stands there.
    """
    codes = {partition: code for code, partition in enumerate(dict.fromkeys(partitions))}
    owner = np.fromiter(map(codes.__getitem__, partitions), np.int64, len(partitions))
    if (np.diff(owner) < 0).any():
        order = np.argsort(owner, kind="stable").tolist()
        partitions = [partitions[at] for at in order]
        offsets = [offsets[at] for at in order]
        values = [values[at] for at in order]
        owner = np.sort(owner)
    ends = np.append(np.flatnonzero(np.diff(owner)) + 1, len(owner)).tolist()  # of partitions
    at = 0
    for count, events in _decode(values):
        if isinstance(events, str):
            yield Unreadable(*partitions[at], offsets[at], repr(values[at])[:_SHOWN], events)
            at += 1
            continue
        if count == 1:  # an Arrow frame, of any number of events, or a single one
            yield Frame(*partitions[at], offsets[at], events)
            at += 1
            continue
        first = at
        while at < first + count:
            end = min(ends[int(np.searchsorted(ends, at, side="right"))], first + count)
            rows = events.slice(at - first, end - at)
            yield Frame(*partitions[at], offsets[end - 1], rows)
            at = end


def _decode(values: Sequence[bytes]) -> Iterator[tuple[int, pa.RecordBatch | str]]:
    """How many messages, and what is in them; a message that is nothing comes alone."""
    at = 0
    for frame in [place for place, value in enumerate(values) if value[:4] == MARKER]:
        if frame > at:
            yield from decode_events(values[at:frame])
        yield 1, decode_frame(values[frame])
        at = frame + 1
    if at < len(values):
        yield from decode_events(values[at:] if at else values)
