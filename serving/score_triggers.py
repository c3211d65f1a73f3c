"""Which events are scored at once, and what a request for one says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import pyarrow as pa

from feature_repo.contracts.events import (
    EARLIEST_EVENT,
    LATEST_EVENT,
    EventType,
    corridor_of,
    to_epoch_us,
)
from feature_repo.stores.forgotten import Forgotten
from serving.messages import Context, PredictRequest
from streaming.log.frames import Frame, Partition, Unreadable

TRIGGERS: Final = (EventType.LOGIN, EventType.PAYMENT_SUBMITTED)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST_US, _LATEST_US = to_epoch_us(EARLIEST_EVENT), to_epoch_us(LATEST_EVENT)
_COLUMNS = (
    "event_id",
    "customer_id",
    "event_type",
    "event_time",
    "send_country",
    "receive_country",
    "amount_minor",
    "device",
    "counterparty_id",
)


@dataclass(frozen=True)
class Trigger:
    """An event that is scored.

    Attributes:
        partition, offset: where it stands in the log.
        at: its event time.
    """

    partition: int
    offset: int
    event_id: str
    customer: str
    event_type: str
    at: datetime
    corridor: str | None
    amount_minor: int | None
    device: str | None
    counterparty: str | None

    @property
    def request_id(self) -> str:
        """The id under which it is scored: the event's."""
        return f"event:{self.event_id}"

    def request(self) -> PredictRequest:
        """What is asked: a prediction as of the event, with what the event says."""
        return PredictRequest(
            customer=self.customer,
            corridor=self.corridor,
            counterparty=self.counterparty,
            context=Context(
                amount_minor=self.amount_minor, device=self.device, event_type=self.event_type
            ),
            as_of=self.at,
        )


@dataclass
class Stretch:
    """What came of one partition: its triggers in log order, and how far it goes."""

    partition: Partition
    offset: int
    triggers: list[Trigger]


def stretches(
    entries: Iterable[Frame | Unreadable],
    forgotten: Forgotten,
    log: str,
    kinds: Sequence[str] = TRIGGERS,
) -> list[Stretch]:
    """The triggers among entries of the log, partition by partition.

    What is no event, or of somebody who was forgotten since, is passed over: whether it is
    admitted is for the stream to say, and to set aside.
    """
    found: dict[Partition, Stretch] = {}
    for entry in entries:
        owned = (entry.entity, entry.partition)
        stretch = found.setdefault(owned, Stretch(owned, entry.offset, []))
        stretch.offset = entry.offset
        if isinstance(entry, Frame):
            stretch.triggers += _triggers(entry, forgotten, log, kinds)
    return list(found.values())


def _triggers(frame: Frame, forgotten: Forgotten, log: str, kinds: Sequence[str]) -> list[Trigger]:
    events = frame.events
    if not set(_COLUMNS) <= set(events.schema.names) or not len(events):
        return []
    events = events.select(list(_COLUMNS))
    try:
        events.validate(full=True)
    except pa.ArrowInvalid:
        return []
    events = events.set_column(3, "event_time", events.column("event_time").cast(pa.int64()))
    wanted = np.isin(events.column("event_type").to_numpy(zero_copy_only=False), list(kinds))
    if not wanted.any():
        return []
    events = events.filter(pa.array(wanted))
    if forgotten:
        gone = forgotten.cut(
            events.column("customer_id"), frame.offset, log, frame.entity, frame.partition
        )
        events = events.filter(pa.array(~gone))
    return [
        Trigger(
            partition=frame.partition,
            offset=frame.offset,
            event_id=row["event_id"],
            customer=row["customer_id"],
            event_type=row["event_type"],
            at=_EPOCH + timedelta(microseconds=row["event_time"]),
            corridor=corridor_of(row["send_country"], row["receive_country"]),
            amount_minor=row["amount_minor"],
            device=row["device"],
            counterparty=row["counterparty_id"],
        )
        for row in events.to_pylist()
        if row["event_id"]
        and row["customer_id"]
        and row["event_time"] is not None
        and _EARLIEST_US <= row["event_time"] < _LATEST_US
    ]
