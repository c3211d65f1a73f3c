"""What is recorded of a day's sessions, as rows of integers that become events of the log.

Chosen by window before anything is written out: sorting and cutting finished texts costs far more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from feature_repo.contracts.events import EVENT_TYPE_CODE, EventType
from streaming.simulator.arrays import Arrays
from streaming.simulator.enactment import ABSENT
from streaming.simulator.randomness import Floats, Ints, UInts, mix64, stream
from streaming.simulator.traffic import Traffic

NO_PAGE = -1


class Numbering(IntEnum):
    """What a day's events are numbered by, so that no two have the same id."""

    EVENT = 0  # all below: by event, or by session
    SNAPSHOT = 1
    CALL = 2
    REPORT = 3
    CALL_LABEL = 4
    FRAUD_LABEL = 5


@dataclass(frozen=True)
class EventRows(Arrays):
    """k events: arrays of shape (k,).

    `session` indexes the day's sessions; `known_us` is when the log knows (a label's arrival);
    `about` is the type of the event that a label or a report is about, or else the event's own;
    `number` and `label_number` become ids; `label_value` counts on labels alone.
    """

    session: Ints
    time_us: Ints
    known_us: Ints
    event: Ints
    about: Ints
    page: Ints
    amount_minor: Ints
    fee_minor: Ints
    number: UInts
    label_number: UInts
    label_value: Floats

    def of_session(self, first: int) -> EventRows:
        """The same rows where the day's sessions stand behind `first` others."""
        return replace(self, session=self.session + first)


def numbers(day: int, kind: Numbering, index: Ints) -> UInts:
    """Numbers of a day's events, all different: shape (k,)."""
    base = (day << 32) + (kind.value << 29)
    return np.uint64(base) + index.astype(np.uint64)


def id_words(event_numbers: UInts, seed: int) -> UInts:
    """The 64 bits of each event's id: different numbers stay different."""
    return mix64(event_numbers, salt=int(stream(seed, "event_id").integers(2**63)))


def made_rows(
    kind: EventType,
    day: int,
    numbering: Numbering,
    index: Ints,
    *,
    session: Ints,
    time_us: Ints,
    known_us: Ints | None = None,
    about: Ints | None = None,
    page: Ints | None = None,
    amount_minor: Ints | None = None,
    label_number: UInts | None = None,
    label_value: Floats | None = None,
) -> EventRows:
    """k rows of one type, without what is not given."""
    k = len(session)
    code = np.full(k, EVENT_TYPE_CODE[kind])
    absent = np.full(k, ABSENT)
    return EventRows(
        session=session,
        time_us=time_us,
        known_us=time_us if known_us is None else known_us,
        event=code,
        about=code if about is None else about,
        page=np.full(k, NO_PAGE) if page is None else page,
        amount_minor=absent if amount_minor is None else amount_minor,
        fee_minor=absent,
        number=numbers(day, numbering, index),
        label_number=np.zeros(k, np.uint64) if label_number is None else label_number,
        label_value=np.zeros(k) if label_value is None else label_value,
    )


def session_rows(day: Traffic, start_us: int, end_us: int) -> EventRows:
    """The events of a day's kept sessions with start <= event time < end (µs since 1970)."""
    rows = np.flatnonzero(
        day.kept[day.session] & (day.time_us >= start_us) & (day.time_us < end_us)
    )
    k = len(rows)
    event, time_us = day.event[rows], day.time_us[rows]
    return EventRows(
        session=day.session[rows],
        time_us=time_us,
        known_us=time_us,
        event=event,
        about=event,
        page=day.page[rows],
        amount_minor=day.amount_minor[rows],
        fee_minor=day.fee_minor[rows],
        number=numbers(day.day, Numbering.EVENT, rows),
        label_number=np.zeros(k, np.uint64),
        label_value=np.zeros(k),
    )
