"""Reading a live log up to where it ends for now."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from streaming.log.frames import Frame, LogReader, Unreadable, merge_frames

# A poll with more events than this has work behind it.
_FEW_EVENTS = 1_024
_PAUSE_S = 0.01


def until_quiet(
    reader: LogReader, quiet_s: float, monotonic_s: Callable[[], float] = time.monotonic
) -> Iterator[list[Frame | Unreadable]]:
    """The entries of a log, until for `quiet_s` no more than a trickle has come.

    Frames of one partition that come in one poll are merged.
    """
    busy_s = monotonic_s()
    while True:
        try:
            entries = list(reader.poll())
        except StopIteration:
            return
        events = sum(len(entry.events) for entry in entries if isinstance(entry, Frame))
        if entries:
            yield merge_frames(entries)
        if events > _FEW_EVENTS:
            busy_s = monotonic_s()
        elif monotonic_s() - busy_s >= quiet_s:
            return
        elif not entries:
            time.sleep(_PAUSE_S)
