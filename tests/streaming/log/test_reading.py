from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from streaming.log.frames import Frame, Partition, Unreadable
from streaming.log.reading import until_quiet


class Replies:
    """A log reader with given answers; each poll takes 10 ms on its own clock."""

    def __init__(self, answers: Sequence[int]) -> None:
        self.gone: dict[Partition, int] = {}
        self.now_s = 0.0
        self._answers = list(answers)

    def poll(self) -> list[Frame | Unreadable]:
        self.now_s += 0.01
        if not self._answers:
            return []
        events = self._answers.pop(0)
        batch = pa.record_batch({"event_id": ["e"]})
        return [Frame("customer", 0, at, batch) for at in range(events)]

    def close(self) -> None:
        pass


def read(reader: Replies) -> list[int]:
    found = until_quiet(reader, 0.05, lambda: reader.now_s)
    return [sum(len(e.events) for e in entries if isinstance(e, Frame)) for entries in found]


def test_tiny_frames_are_merged() -> None:
    reader = Replies([3])
    ((frame,),) = until_quiet(reader, 0.05, lambda: reader.now_s)
    assert isinstance(frame, Frame)
    assert (len(frame.events), frame.offset) == (3, 2)


def test_a_log_that_ended_is_read_whole() -> None:
    assert read(Replies([5_000, 5_000, 3])) == [5_000, 5_000, 3]


def test_a_log_that_is_slow_to_answer_is_waited_for() -> None:
    assert read(Replies([0, 0, 5_000])) == [5_000]


def test_a_log_that_is_written_to_all_the_time_has_an_end_too() -> None:
    assert sum(read(Replies([5_000, *([10] * 1_000)]))) < 5_200
