"""What can go wrong between a log and those who write and read it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from feature_repo.contracts.errors import DaimaError

_NAMED = 5


class LogGapError(DaimaError):
    """Entries that a reader still needed are no longer in the log.

    Attributes:
        entity, partition: of which partition.
        offset: after which reading should have gone on.
        missing: how many entries are gone (Valkey: frames, Kafka: messages); None if the log
            cannot tell, as after it was emptied.
        since, until: between which instants they were written, as far as the log knows.
    """

    def __init__(
        self,
        entity: str,
        partition: int,
        offset: int,
        missing: int | None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> None:
        self.entity, self.partition, self.offset = entity, partition, offset
        self.missing, self.since, self.until = missing, since, until
        if missing is None:
            gone = "the log was emptied or put back to an older state, how many are gone is unknown"
        else:
            gone = f"{missing:,} {'entry is' if missing == 1 else 'entries are'} gone"
        if since and until:
            gone += f", of {_text(since)} to {_text(until)}"
        super().__init__(
            f"event log {entity}/{partition}",
            expected=f"the entries after offset {offset}; {gone}",
            action="start anew from the oldest entry kept, without the checkpoints, or put the "
            "missing events into the log once more; keep the log for longer",
        )


class DeliveryError(DaimaError):
    """Events were handed to the log, and it did not confirm them.

    They may stand in it all the same; to send them again does no harm (a repeated event id
    changes nothing).

    Attributes:
        confirmed: events of the batch that the log has in all their partitions.
        event_ids: the others'.
    """

    def __init__(self, confirmed: int, event_ids: Sequence[str], reason: str) -> None:
        self.confirmed = confirmed
        self.event_ids = tuple(event_ids)
        count = len(self.event_ids)
        named = ", ".join(map(repr, self.event_ids[:_NAMED]))
        more = f" and {count - _NAMED:,} more" if count > _NAMED else ""
        super().__init__(
            "event log",
            expected=f"{count + confirmed:,} events confirmed; {count:,} were not ({reason}): "
            f"{named}{more}",
            action="send these again once it answers; repeated events change nothing",
        )


def _text(instant: datetime) -> str:
    return instant.isoformat(timespec="milliseconds")
