"""When events may come: those too late, or from the future, are set aside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_repo.contracts.definition import short_duration
from feature_repo.contracts.events import LATEST_EVENT, to_epoch_us
from feature_repo.engine.projection import log_times_us
from streaming.log.frames import Partition

# A device's clock runs ahead by this much at most; an event from further ahead would make every
# honest event after it late.
ALLOWED_AHEAD = timedelta(hours=1)
_BEGINNING = np.iinfo(np.int64).min // 2
_Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Verdict:
    """Which of n events are too late, and which too far ahead of the clock: two shapes (n,)."""

    late: _Flags
    ahead: _Flags

    @property
    def kept(self) -> _Flags:
        """Those that are neither."""
        return ~(self.late | self.ahead)


class LatenessGate:
    """Tells which events the features can still take in exactly.

    An event is late if its log time is not within `lateness` of the newest log time before it in
    its partition: a log orders the events of one partition only, so each has its own watermark.

    Args:
        lateness: of the feature set.
        now: the clock of a live log; None for a replay, whose events may have any age.
        watermarks_us: newest log time of each partition so far, from its checkpoint.
    """

    def __init__(
        self,
        lateness: timedelta,
        now: Callable[[], datetime] | None = None,
        watermarks_us: Mapping[Partition, int] | None = None,
    ) -> None:
        self._lateness_us = lateness // timedelta(microseconds=1)
        self._now = now
        self._watermarks_us: dict[Partition, int] = dict(watermarks_us or {})
        self.late_reason = (
            f"an event at most {short_duration(lateness)} older than the newest before it"
        )
        self.ahead_reason = (
            f"an event time at most {short_duration(ALLOWED_AHEAD)} ahead of the clock"
        )

    def watermark_us(self, owned: Partition) -> int | None:
        """Newest log time of a partition (µs); None before its first event."""
        return self._watermarks_us.get(owned)

    def surely_timely(
        self, partitions: Sequence[Partition], starts: Sequence[int], events: pa.RecordBatch
    ) -> list[bool]:
        """Of which partitions the next events are all to be kept, at a quick look.

        Their watermarks move. Those of the others do not: their events are for `judge`.

        Args:
            partitions: p of them.
            starts: (p,) of each one's first event, the others behind it; rising from 0.
            events: n of them, at least one a partition.
        """
        known = log_times_us(events)
        happened = events.column("event_time").cast(pa.int64()).to_numpy()
        oldest = np.minimum.reduceat(known, starts).tolist()
        newest = np.maximum.reduceat(known, starts).tolist()
        furthest = np.maximum.reduceat(happened, starts).tolist()
        limit = self._limit_us()
        timely = []
        for owned, first, last, far in zip(partitions, oldest, newest, furthest, strict=True):
            watermark = max(self._watermarks_us.get(owned, _BEGINNING), last)
            kept = max(far, last) <= limit and first > watermark - self._lateness_us
            if kept:
                self._watermarks_us[owned] = watermark
            timely.append(kept)
        return timely

    def judge(self, owned: Partition, events: pa.RecordBatch) -> Verdict:
        """Judge the next events of a partition, one after the other; moves its watermark."""
        known = log_times_us(events)
        happened = events.column("event_time").cast(pa.int64()).to_numpy()
        ahead = np.maximum(known, happened) > self._limit_us()
        # The newest instant before each event, not before its frame: how a log is cut into
        # frames must not decide what is late.
        newest = np.empty(len(known) + 1, np.int64)
        newest[0] = self._watermarks_us.get(owned, _BEGINNING)
        newest[1:] = np.where(ahead, _BEGINNING, known)
        np.maximum.accumulate(newest, out=newest)
        if newest[-1] > _BEGINNING:
            self._watermarks_us[owned] = int(newest[-1])
        late = ~ahead & (known <= newest[:-1] - self._lateness_us)
        return Verdict(late, ahead)

    def _limit_us(self) -> int:
        """Beyond it an event is ahead of the clock."""
        return to_epoch_us(self._now() + ALLOWED_AHEAD if self._now else LATEST_EVENT)
