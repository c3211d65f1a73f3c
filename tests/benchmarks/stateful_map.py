"""What one writes with `map` and `stateful_map`: the customer's features, in plain Python.

The full set of the default features of a customer, an object a customer, every window kept up to
date as events come and go: an event moves through a chain of deques, one a window, and is added to
and taken from running sums. Repeated ids are left out; an event that is late by up to the lateness
is put in its place and the customer's kept events are folded again. Exact, as the engine is. In
snapshots a state is bytes (`marshal`): measured, twice the rate of a plain object with recovery on.
"""

from __future__ import annotations

import marshal
from bisect import bisect_right
from collections import deque
from datetime import timedelta
from math import sqrt
from operator import itemgetter
from typing import Any

from feature_repo.contracts.events import ACTIONS, EVENT_TYPE_CODE, OUTSIDE_SESSION, EventType

# (event_id, time_us, kind, page, corridor, amount, total, fee, counterparty, channel, device,
#  customer)
Event = tuple[Any, ...]
Row = tuple[Any, ...]

_US = timedelta(microseconds=1)
GAP_US = timedelta(minutes=30) // _US
LATENESS_US = timedelta(hours=1) // _US
W5_US, W1H_US, W24_US, W7_US = (
    timedelta(**each) // _US for each in ({"minutes": 5}, {"hours": 1}, {"hours": 24}, {"days": 7})
)
TAIL_US = W7_US + LATENESS_US
PAGE_VIEW = EVENT_TYPE_CODE[EventType.PAGE_VIEW]
PAYMENT = EVENT_TYPE_CODE[EventType.PAYMENT_SUBMITTED]
FAILED = EVENT_TYPE_CODE[EventType.PAYMENT_FAILED]
QUOTE = EVENT_TYPE_CODE[EventType.QUOTE]
_ACTIONS = frozenset(EVENT_TYPE_CODE[kind] for kind in ACTIONS)
_PAYABLE = frozenset({QUOTE, PAYMENT})
_OUTSIDE = frozenset(EVENT_TYPE_CODE[kind] for kind in OUTSIDE_SESSION)
_HOUR_US, _DAY_US = 3_600_000_000, 86_400_000_000
CUSTOMER_AT = 11
_time = itemgetter(1)


class Customer:
    """One customer's state."""

    __slots__ = (
        "actions", "amounts", "before", "channel", "corridor", "d1h", "d5", "d7", "d24", "device",
        "events", "failed", "ids", "last", "life_count", "life_sum", "newest", "pages", "paid_at",
        "payable", "payees", "payments", "peaks", "settled", "squares", "start", "t1h", "t5", "t7",
        "t24", "tail", "views",
    )  # fmt: skip

    def __init__(self) -> None:
        self.newest = -1
        self.ids: set[str] = set()
        # Events by age: up to 5 minutes, up to 1 hour, ...; the tail is for late ones.
        self.d5: deque[Event] = deque()
        self.d1h: deque[Event] = deque()
        self.d24: deque[Event] = deque()
        self.d7: deque[Event] = deque()
        self.tail: deque[Event] = deque()
        # Events, page views, payments, failed ones, amounts, fees.
        self.t5 = [0, 0, 0, 0, 0, 0]
        self.t1h = [0, 0, 0, 0, 0, 0]
        self.t24 = [0, 0, 0, 0, 0, 0]
        self.t7 = [0, 0, 0, 0, 0, 0]
        self.amounts = self.squares = 0
        self.peaks: deque[tuple[int, int]] = deque()
        self.payees: dict[str, int] = {}
        self.life_count = self.life_sum = 0
        self.paid_at: int | None = None
        self.start: int | None = None
        self.last = 0
        self.events = self.views = self.actions = self.payments = self.failed = 0
        self.pages: set[str] = set()
        self.payable: int | None = None
        self.corridor: str | None = None
        self.channel: str | None = None
        self.device: str | None = None
        self.before: tuple[int, int, int] | None = None
        # As of the events that have left the tail: lifetime and sessions.
        self.settled: tuple[Any, ...] = (0, 0, None, None, 0, 0, None)

    def __deepcopy__(self, memo: Any) -> Packed:
        """Bytewax copies every state, then pickles the copy: 20 times as long without this."""
        values = [getattr(self, name) for name in Customer.__slots__]
        return Packed(marshal.dumps([list(one) if type(one) is deque else one for one in values]))


class Packed:
    """A customer's state as bytes, on its way into a snapshot."""

    def __init__(self, packed: bytes) -> None:
        self._packed = packed

    def __reduce__(self) -> tuple[Any, ...]:
        return unpacked, (self._packed,)


def unpacked(packed: bytes) -> Customer:
    """The state in a snapshot."""
    state = Customer()
    for name, value in zip(Customer.__slots__, marshal.loads(packed), strict=True):  # noqa: S302
        is_deque = type(getattr(state, name)) is deque
        setattr(state, name, deque(value) if is_deque else value)
    return state


def step(state: Customer | None, event: Event) -> tuple[Customer, Any]:
    """What `stateful_map` calls: the rows of an event; none if it is a repeated one."""
    if state is None:
        state = Customer()
    if event[0] in state.ids:
        return state, ()
    if event[1] < state.newest:
        return _late(state, event)
    return state, (fold(state, event),)


def fold(state: Customer, event: Event) -> Row:  # noqa: PLR0912 - one pass, and no calls, for speed
    """Take in an event that is the newest, and give its row."""
    event_id, t, kind, page, corridor, amount, total, fee, payee, channel, device, _ = event
    state.newest = t
    _expire(state, t)
    if kind in _OUTSIDE:
        return _row(state, t)
    state.ids.add(event_id)
    state.d5.append(event)
    t5, t1h, t24, t7 = state.t5, state.t1h, state.t24, state.t7
    t5[0] += 1
    t1h[0] += 1
    t24[0] += 1
    t7[0] += 1
    start = state.start
    if start is None or t - state.last > GAP_US:
        if start is not None:
            state.before = (state.last - start, state.events, state.last)
        state.start = t
        state.events = state.views = state.actions = state.payments = state.failed = 0
        if state.pages:
            state.pages = set()
        state.payable = state.corridor = state.channel = state.device = None
    state.last = t
    state.events += 1
    state.life_count += 1
    if kind == PAGE_VIEW:
        t5[1] += 1
        t1h[1] += 1
        t24[1] += 1
        t7[1] += 1
        state.views += 1
    elif kind == PAYMENT:
        t5[2] += 1
        t1h[2] += 1
        t24[2] += 1
        t7[2] += 1
        state.payments += 1
        state.paid_at = t
        if amount is not None:
            t5[4] += amount
            t1h[4] += amount
            t24[4] += amount
            t7[4] += amount
            state.amounts += 1
            state.squares += amount * amount
            peaks = state.peaks
            while peaks and peaks[-1][1] <= amount:
                peaks.pop()
            peaks.append((t, amount))
            state.life_sum += amount
        if fee is not None:
            t5[5] += fee
            t1h[5] += fee
            t24[5] += fee
            t7[5] += fee
        if payee is not None:
            state.payees[payee] = state.payees.get(payee, 0) + 1
    elif kind == FAILED:
        t5[3] += 1
        t1h[3] += 1
        t24[3] += 1
        t7[3] += 1
        state.failed += 1
    if kind in _ACTIONS:
        state.actions += 1
    if page is not None:
        state.pages.add(page)
    if total is not None and kind in _PAYABLE:
        state.payable = total
    if corridor is not None:
        state.corridor = corridor
    if channel is not None:
        state.channel = channel
    if device is not None:
        state.device = device
    return _row(state, t)


def _expire(state: Customer, t: int) -> None:
    """Move events on that have become too old for their window."""
    young, old = state.d5, state.d1h
    limit = t - W5_US
    while young and young[0][1] <= limit:
        event = young.popleft()
        old.append(event)
        _take_from(state.t5, event)
    young, old = old, state.d24
    limit = t - W1H_US
    while young and young[0][1] <= limit:
        event = young.popleft()
        old.append(event)
        _take_from(state.t1h, event)
        state.ids.discard(event[0])  # the lateness is an hour, too
    young, old = old, state.d7
    limit = t - W24_US
    while young and young[0][1] <= limit:
        event = young.popleft()
        old.append(event)
        _take_from(state.t24, event)
    young, old = old, state.tail
    limit = t - W7_US
    while young and young[0][1] <= limit:
        event = young.popleft()
        old.append(event)
        _take_from(state.t7, event)
        if event[2] == PAYMENT:
            _take_payment(state, event)
    limit = t - TAIL_US
    while old and old[0][1] <= limit:
        _settle(state, old.popleft())


def _take_from(sums: list[int], event: Event) -> None:
    kind = event[2]
    sums[0] -= 1
    if kind == PAGE_VIEW:
        sums[1] -= 1
    elif kind == PAYMENT:
        sums[2] -= 1
        sums[4] -= event[5] or 0
        sums[5] -= event[7] or 0
    elif kind == FAILED:
        sums[3] -= 1


def _take_payment(state: Customer, event: Event) -> None:
    amount, payee = event[5], event[8]
    if amount is not None:
        state.amounts -= 1
        state.squares -= amount * amount
        if state.peaks[0] == (event[1], amount):
            state.peaks.popleft()
    if payee is not None:
        left = state.payees[payee] - 1
        if left:
            state.payees[payee] = left
        else:
            del state.payees[payee]


def _settle(state: Customer, event: Event) -> None:
    """Remember what late events still need to know of one that is no longer kept."""
    count, total, paid_at, start, last, events, before = state.settled
    t = event[1]
    if event[2] == PAYMENT:
        total, paid_at = total + (event[5] or 0), t
    if start is None or t - last > GAP_US:
        if start is not None:
            before = (last - start, events, last)
        start, events = t, 0
    state.settled = (count + 1, total, paid_at, start, t, events + 1, before)


def _late(state: Customer, event: Event) -> tuple[Customer, Any]:
    """Put an event in its place; its row, and again those of the events that it changes."""
    kept = [*state.tail, *state.d7, *state.d24, *state.d1h, *state.d5]
    at = bisect_right(kept, event[1], key=_time)
    kept.insert(at, event)
    anew = Customer()
    anew.settled = state.settled
    (
        anew.life_count, anew.life_sum, anew.paid_at, anew.start, anew.last, anew.events,
        anew.before,
    ) = state.settled  # fmt: skip
    anew.ids = state.ids
    rows = [fold(anew, each) for each in kept]
    anew.ids.add(event[0])
    return anew, tuple(rows[at:])


def _row(state: Customer, t: int) -> Row:
    start, last, before = state.start, state.last, state.before
    if start is not None and t - last <= GAP_US:
        duration = (last - start) / 1e6
        payable = state.payable
        session: Row = (
            start,
            start % _DAY_US // _HOUR_US,
            (start // _DAY_US + 3) % 7,
            duration,
            state.events,
            state.views,
            state.actions,
            state.payments,
            state.failed,
            len(state.pages),
            payable,
            payable / duration if payable is not None and duration else None,
            state.corridor,
            state.channel,
            state.device,
        )
    else:  # silent for too long: the session has become the one before
        session = _NO_SESSION
        if start is not None:
            before = (last - start, state.events, last)
    since: Row = (
        (before[0] / 1e6, before[1], (t - before[2]) / 1e6) if before is not None else _NONE_BEFORE
    )
    count = state.amounts
    paid = state.t7[4]
    paid_at = state.paid_at
    return (
        *session,
        *since,
        *state.t5,
        *state.t1h,
        *state.t24,
        *state.t7,
        paid / count if count else None,
        sqrt(max(count * state.squares - paid * paid, 0)) / count if count else None,
        state.peaks[0][1] if count else None,
        len(state.payees),
        state.life_count,
        state.life_sum,
        None if paid_at is None else (t - paid_at) / 1e6,
    )


_NO_SESSION: Row = (None, None, None, None, 0, 0, 0, 0, 0, 0, None, None, None, None, None)
_NONE_BEFORE: Row = (None, 0, None)
