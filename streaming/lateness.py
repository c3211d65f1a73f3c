"""When events may come: those too late, or from the future, are dead letters."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_repo.contracts.events import LATEST_EVENT, to_epoch_us
from feature_repo.contracts.features import short_duration
from feature_repo.engine.shard import ALLOWED_LATENESS
from streaming.log.frames import Frame
from streaming.mapping.dead_letters import DeadLetter, DeadLetters

_LATENESS_US = ALLOWED_LATENESS // timedelta(microseconds=1)
# A device's clock runs ahead by this much at most; an event from further ahead would make every
# honest event after it late.
ALLOWED_AHEAD = timedelta(hours=1)
_AHEAD = f"an event time at most {short_duration(ALLOWED_AHEAD)} ahead of the clock"
_LATE = f"an event at most {short_duration(ALLOWED_LATENESS)} older than the newest before it"


class LatenessGate:
    """Lets through the events that the features can still take in exactly.

    Args:
        dead_letters: where the others go.
        now: the clock of a live log; None for a replay, whose events may have any age.
    """

    def __init__(
        self,
        dead_letters: DeadLetters,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self._dead_letters = dead_letters
        self._now = now
        # A log orders the events of one partition only, so each has its own newest instant.
        self._watermarks_us: dict[int, int] = {}

    def admit(self, frame: Frame) -> Frame | None:
        """The frame without the events that went to the dead letters; None if nothing is left."""
        times = frame.events.column("event_time").cast(pa.int64()).to_numpy()
        limit = self._now() + ALLOWED_AHEAD if self._now else LATEST_EVENT
        ahead = times > to_epoch_us(limit)
        self._set_aside(frame, ahead, _AHEAD)
        # The newest instant up to each event, not of its frame: how a log is cut into frames must
        # not decide what is late.
        watermarks = np.maximum.accumulate(np.where(ahead, 0, times))
        watermarks = np.maximum(watermarks, self._watermarks_us.get(frame.partition, 0))
        self._watermarks_us[frame.partition] = int(watermarks[-1])
        late = times <= watermarks - _LATENESS_US
        self._set_aside(frame, late & ~ahead, _LATE)
        keep = ~(ahead | late)
        if keep.all():
            return frame
        if not keep.any():
            return None
        return Frame(frame.partition, frame.offset, frame.events.filter(pa.array(keep)))

    def _set_aside(self, frame: Frame, rows: npt.NDArray[np.bool_], reason: str) -> None:
        places = np.flatnonzero(rows)
        records = frame.events.take(pa.array(places)).to_pylist()
        self._dead_letters.extend(
            DeadLetter(
                row=frame.offset + place,
                field="event_time",
                value=record["event_time"],
                reason=reason,
                record=record,
            )
            for place, record in zip(places.tolist(), records, strict=True)
        )
