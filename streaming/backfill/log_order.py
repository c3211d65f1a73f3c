"""Events of a file in the order of their log times, without those that came too late."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_repo.engine.projection import log_times_us
from feature_repo.stores.event_history import concat, sorted_by
from streaming.lateness import LatenessGate

# Called with the late events of a batch and the file's rows in which they stand.
OnLate = Callable[[pa.RecordBatch, npt.NDArray[np.int64]], None]
_ONE = ("", 0)  # the file is one partition of a log
_NEVER = np.iinfo(np.int64).min


def in_log_order(
    batches: Iterable[pa.RecordBatch], lateness: timedelta, on_late: OnLate
) -> Iterator[pa.RecordBatch]:
    """Put the events of one log partition, as they came, in order of log time.

    An event at least `lateness` older than the newest before it is late: it goes to `on_late`.
    The others are held back until nothing older can come, so that each event's row is final when
    it is first computed. Events of one instant stay in the order in which they came.

    Memory: the events of one lateness. Events that are in order already are not copied.
    """
    lateness_us = lateness // timedelta(microseconds=1)
    gate = LatenessGate(lateness)
    held: list[pa.RecordBatch] = []
    held_times: list[npt.NDArray[np.int64]] = []
    row = 0
    for events in batches:
        if not len(events):
            continue
        kept = gate.judge(_ONE, events).kept
        if not kept.all():
            on_late(events.filter(pa.array(~kept)), row + np.flatnonzero(~kept))
        row += len(events)
        good = events if kept.all() else events.filter(pa.array(kept))
        if len(good):
            held.append(good)
            held_times.append(log_times_us(good))
        # Nothing that comes now is as old as this.
        newest_us = gate.watermark_us(_ONE)
        final = _NEVER if newest_us is None else newest_us - lateness_us
        if _out_of_order(held_times):
            together, ordered = sorted_by(concat(held), np.concatenate(held_times))
            cut = int(np.searchsorted(ordered, final, side="right"))
            if cut:
                yield together.slice(0, cut)
            rest = cut < len(ordered)
            held = [together.slice(cut)] if rest else []
            held_times = [ordered[cut:]] if rest else []
        # Whole batches, as large as they came: small ones cost more to write.
        while held and held_times[0][-1] <= final:
            yield held.pop(0)
            held_times.pop(0)
    yield from held


def _out_of_order(times: list[npt.NDArray[np.int64]]) -> bool:
    last = times[-1] if times else np.empty(0, np.int64)
    if len(times) > 1 and len(last) and times[-2][-1] > last[0]:
        return True
    return bool((last[1:] < last[:-1]).any())
