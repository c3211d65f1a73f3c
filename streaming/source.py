"""The log as a Bytewax source: admitted events in, and a barrier at the end of every epoch."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from streaming.admission import Admission
from streaming.failure import Failure
from streaming.forgetting import Forgetter
from streaming.log.frames import LogReader, Partition
from streaming.updates import Admitted, Barrier, Forgetting, Position

Item = Admitted | Barrier | Forgetting

# While little comes in, the log is asked this often: half of it is the median wait of an event.
POLL_INTERVAL = timedelta(milliseconds=5)
# A poll with more events than this is followed by the next at once.
_FEW_EVENTS = 1_024
# From barrier to barrier while customers are being forgotten.
_NUDGE_S = 0.05


class _LogPartition(StatefulSourcePartition[Item, None]):
    def __init__(self, source: LogSource, reader: LogReader) -> None:
        self._source = source
        self._reader = reader
        self._offsets = dict(source.offsets)
        self._polled_s = self._epoch_began_s = time.monotonic()
        self._longest_gap_s = self._nudged_s = 0.0
        self._read_since: set[Partition] = set()  # their last barrier
        self._waiting: deque[Item] = deque()
        self._busy = False
        self._ended = False

    def next_batch(self) -> Iterable[Item]:
        if (self._ended and not self._waiting) or self._source.failure.error:
            raise StopIteration
        with self._source.failure.noted():
            if not self._waiting:
                self._waiting.extend(self._poll())
        # Little goes through as one. Of much, a partition's values are stored while the next
        # one's are computed.
        ready = 1 if self._busy else len(self._waiting)
        return [self._waiting.popleft() for _ in range(min(ready, len(self._waiting)))]

    def _poll(self) -> list[Item]:
        now_s = time.monotonic()
        self._longest_gap_s = max(self._longest_gap_s, now_s - self._polled_s)
        self._polled_s = now_s
        forgetter = self._source.forgetter
        if forgetter is not None and (forgettings := forgetter.due(self._offsets)):
            return [*forgettings, self._barrier()]
        try:
            entries = self._reader.poll()
        except StopIteration:
            self._ended = True
            return [self._barrier()]
        if forgetter is not None:
            entries = forgetter.let_in(entries)
        for entry in entries:
            owned = entry.entity, entry.partition
            self._offsets[owned] = entry.offset
            self._read_since.add(owned)
        # What cannot be processed is set aside here: an exception further down would kill the
        # process, and every replay would run into it again.
        admitted = self._source.admission.admit(entries)
        self._busy = sum(len(batch.events) for batch in admitted) > _FEW_EVENTS
        return [*admitted, *self._barriers(now_s)]

    def next_awake(self) -> datetime | None:
        if self._busy or self._waiting or self._ended:
            return None
        passed = timedelta(seconds=time.monotonic() - self._polled_s)
        return self._source.clock() + max(POLL_INTERVAL - passed, timedelta(0))

    def snapshot(self) -> None:
        return None

    def close(self) -> None:
        self._reader.close()

    def _barriers(self, now_s: float) -> list[Barrier]:
        """The barrier that is due, if any."""
        epoch = self._source.epoch
        if self._source.committing():
            return []  # a slow disk makes the epoch longer
        forgetter = self._source.forgetter
        if forgetter is not None and forgetter.waiting:
            # Copies go on, and are committed, only while something flows: also in a quiet log.
            if now_s - self._nudged_s < _NUDGE_S:
                return []
            self._nudged_s = now_s
            return [self._barrier()]
        if epoch is None:
            return []
        if now_s - self._epoch_began_s < epoch.total_seconds():
            return []
        self._source.epoch_ended(self._longest_gap_s)
        self._epoch_began_s, self._longest_gap_s = now_s, 0.0
        read, self._read_since = self._read_since, set()
        return [self._barrier(read)] if read else []

    def _barrier(self, whose: Collection[Partition] | None = None) -> Barrier:
        """A barrier of these partitions; None: of all."""
        positions = {
            owned: Position(self._offsets[owned], self._source.admission.watermark_us(owned))
            for owned in (self._offsets if whose is None else whose)
        }
        return Barrier(positions, last=self._ended)


class LogSource(FixedPartitionedSource[Item, None]):
    """Reads one log through one reader, opened when the dataflow starts.

    Args:
        open_reader: opens the log after `offsets`.
        admission: decides what gets in.
        offsets: of the last entry taken in before, by partition.
        failure: ends the log early.
        epoch: time from one barrier to the next; None for one barrier, at the end of the log.
        clock: what Bytewax's wake-up times are told in.
        forgetter: keeps out who was forgotten; None: nobody can be while it runs.
        committing: whether an epoch is being committed, so that no other is to end.
        epoch_ended: called with the longest time between two polls of an epoch (s).
    """

    def __init__(
        self,
        open_reader: Callable[[], LogReader],
        admission: Admission,
        offsets: Mapping[Partition, int | None],
        failure: Failure,
        *,
        epoch: timedelta | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        forgetter: Forgetter | None = None,
        committing: Callable[[], bool] = lambda: False,
        epoch_ended: Callable[[float], None] = lambda longest_gap_s: None,
    ) -> None:
        self._open_reader = open_reader
        self.admission = admission
        self.offsets = offsets
        self.failure = failure
        self.epoch = epoch
        self.clock = clock
        self.forgetter = forgetter
        self.committing = committing
        self.epoch_ended = epoch_ended

    def list_parts(self) -> list[str]:
        """One partition: the process owns everything it reads."""
        return ["log"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _LogPartition:
        """Open the reader."""
        return _LogPartition(self, self._open_reader())
