"""What may enter the dataflow: readable, valid and timely events; the rest are dead letters."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from feature_repo.contracts.errors import InputError
from streaming.lateness import LatenessGate
from streaming.log.frames import Frame, Unreadable
from streaming.mapping.dead_letters import DeadLetter, DeadLetters
from streaming.mapping.validate import split_valid


class Admission:
    """Lets events in by the rules of the event schema, whoever has written them to the log.

    Args:
        dead_letters: where the others go.
        now: the clock of a live log; None for a replay, whose events may have any age.
        admitted: called with the number of events let in, for counts and progress.
    """

    def __init__(
        self,
        dead_letters: DeadLetters,
        now: Callable[[], datetime] | None = None,
        admitted: Callable[[int], None] = lambda events: None,
    ) -> None:
        self._dead_letters = dead_letters
        self._gate = LatenessGate(dead_letters, now)
        self._admitted = admitted

    def admit(self, entry: Frame | Unreadable) -> Frame | None:
        """The entry's good events; None if there are none."""
        if isinstance(entry, Unreadable):
            self._set_aside(entry)
            return None
        try:
            valid, letters = split_valid(entry.events, entry.offset)
        except InputError as error:  # its buffers do not hold what they say
            self._set_aside(Unreadable(entry.partition, entry.offset, "", str(error)))
            return None
        self._dead_letters.extend(letters)
        if not len(valid):
            return None
        frame = self._gate.admit(Frame(entry.partition, entry.offset, valid))
        if frame is not None:
            self._admitted(len(frame.events))
        return frame

    def _set_aside(self, entry: Unreadable) -> None:
        letter = DeadLetter(
            row=entry.offset,
            field="row",
            value=entry.content,
            reason=entry.reason,
            record={"partition": entry.partition, "offset": entry.offset},
        )
        self._dead_letters.extend([letter])
