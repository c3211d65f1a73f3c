"""What a run of the dataflow did."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class StreamReport:
    """Counts of one run.

    Attributes:
        events: events let into the dataflow.
        rows_online: states that the online store has taken (a key's updates while the store is
            busy are one).
        refused_online: states that the store held already, or later ones of: a replay.
        duplicates: events that changed nothing, since their customer and id had come before.
        dead_letters: events set aside by the dataflow.
        set_aside: parts of events set aside in the streams of further entities.
        gone: entries of the log that were no longer kept when it was read from its beginning.
        seconds: wall-clock time.
        epoch_gaps_s: of each epoch, the longest time between two polls of the log.
    """

    events: int = 0
    rows_online: int = 0
    refused_online: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    set_aside: int = 0
    gone: int = 0
    seconds: float = 0.0
    epoch_gaps_s: list[float] = field(default_factory=list)

    @property
    def events_per_s(self) -> float:
        """Events a second over the whole run."""
        return self.events / self.seconds if self.seconds else 0.0
