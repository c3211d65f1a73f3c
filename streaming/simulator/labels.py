"""What becomes known later: labels of logins (a call within a day) and of payments (fraud).

A label's event time is that of what it labels; the log knows it from its arrival on. What a label
means follows from the type of the event that it labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from feature_repo.contracts.events import EVENT_TYPE_CODE, EventType
from streaming.simulator.event_rows import EventRows, Numbering, made_rows, numbers
from streaming.simulator.knobs import World
from streaming.simulator.randomness import Bools, Ints, stream
from streaming.simulator.records import US_PER_DAY, call_times_us
from streaming.simulator.sessions import Scenario
from streaming.simulator.traffic import Traffic

_LOGIN, _PAYMENT = (
    EVENT_TYPE_CODE[kind] for kind in (EventType.LOGIN, EventType.PAYMENT_SUBMITTED)
)
# A session may start, and call, on the day after the one whose traffic it belongs to.
_DAYS_OF_CALLS = 2
# So many days before a window have sessions that run into it, or whose calls do.
NEAR_DAYS = 2


def look_back_days(world: World) -> int:
    """How many days before a window have labels in it, or sessions that run into it.

    A payment may lie on the day after the one whose traffic it belongs to; so may a session whose
    label depends on calls of the day before.
    """
    longest = int(np.ceil(world.labels.fraud_days.most))
    return max(longest + 1, NEAR_DAYS + _DAYS_OF_CALLS)


def fraud_labels(world: World, day: Traffic, seed: int) -> EventRows:
    """The label of every payment submitted in a day's kept sessions: 1 for fraud, else 0."""
    event = np.flatnonzero(day.event == _PAYMENT)
    span = world.labels.fraud_days
    days = stream(seed, "labels", day.day).triangular(
        span.least, world.labels.fraud_days_mode, span.most, len(event)
    )
    kept = np.flatnonzero(day.kept[day.session[event]])
    event, days = event[kept], days[kept]
    session = day.session[event]
    return made_rows(
        EventType.LABEL,
        day.day,
        Numbering.FRAUD_LABEL,
        event,
        session=session,
        time_us=day.time_us[event],
        known_us=day.time_us[event] + np.rint(days * US_PER_DAY).astype(np.int64),
        about=day.event[event],
        page=day.page[event],
        label_number=numbers(day.day, Numbering.EVENT, event),
        label_value=(day.sessions.scenario[session] != Scenario.NONE).astype(np.float64),
    )


def call_labels(days: Sequence[Traffic], at: int) -> EventRows:
    """The labels of the logins of `days[at]`: 1 if the customer calls within a day, else 0.

    A call of any session counts. The label arrives with it, or else a day after the login; calls
    of days that are not there are missing, and would be those of a later window.
    """
    day = days[at]
    session = np.flatnonzero(day.kept)
    event, start_us = day.first[session], day.start_us[session]
    near = days[max(0, at - _DAYS_OF_CALLS) : at + _DAYS_OF_CALLS + 1]
    called, known_us = _first_calls(near, day.sessions.customer[session], start_us)
    return made_rows(
        EventType.LABEL,
        day.day,
        Numbering.CALL_LABEL,
        session,
        session=session,
        time_us=start_us,
        known_us=known_us,
        about=np.full(len(session), _LOGIN),
        page=day.page[event],
        label_number=numbers(day.day, Numbering.EVENT, event),
        label_value=called.astype(np.float64),
    )


def _first_calls(days: Sequence[Traffic], customer: Ints, start_us: Ints) -> tuple[Bools, Ints]:
    """Whether each customer calls within a day of an instant, and when that is known (µs)."""
    known_us = start_us + US_PER_DAY
    sessions, times = zip(*(call_times_us(day) for day in days), strict=True)
    callers = np.concatenate(
        [day.sessions.customer[rows] for day, rows in zip(days, sessions, strict=True)]
    )
    calls_us = np.concatenate(times)
    if not len(calls_us) or not len(customer):
        return np.zeros(len(customer), dtype=np.bool_), known_us
    # One number a call: the customer above, and below it the time within these few days.
    origin = min(int(calls_us.min()), int(start_us.min()))
    keys = np.sort((callers << 40) + calls_us - origin)
    at = np.searchsorted(keys, (customer << 40) + start_us - origin)
    following = keys[np.minimum(at, len(keys) - 1)]
    call_us = (following & ((1 << 40) - 1)) + origin
    called = (at < len(keys)) & (following >> 40 == customer) & (call_us < known_us)
    return called, np.where(called, call_us, known_us)
