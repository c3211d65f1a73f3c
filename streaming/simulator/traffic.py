"""One day's traffic: its sessions turned into events with times and amounts.

A day is the unit of randomness: its traffic depends on world, people, seed and day alone, so any
windows cut from it fit together without a gap or a double.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feature_repo.contracts.events import EVENT_TYPE_CODE, EventType
from feature_repo.contracts.money import ExchangeRates
from streaming.simulator.dwell import PageDwell
from streaming.simulator.journeys import Journeys, Steps, draw_steps
from streaming.simulator.knobs import World
from streaming.simulator.payments import Payments, Tariff, draw_payments, tariff_on
from streaming.simulator.people import People
from streaming.simulator.randomness import Bools, Floats, Ints, UInts, lognormal, mix64, stream
from streaming.simulator.sessions import DAY_S, Sessions, draw_sessions

ABSENT = -1
_MONEY = [
    EVENT_TYPE_CODE[kind]
    for kind in (
        EventType.QUOTE,
        EventType.PAYMENT_SUBMITTED,
        EventType.PAYMENT_CONFIRMED,
        EventType.PAYMENT_FAILED,
    )
]


@dataclass(frozen=True)
class Traffic:
    """The n sessions of a day and their m events, ordered by session and time.

    Shapes: `kept`, `first`, `duration_s` (n,): sessions too soon after the one before are not
    kept, `first` is a session's first event. The rest (m,): `session` indexes `sessions`;
    amounts are minor units of the send country's currency, ABSENT where the event has none.
    """

    sessions: Sessions
    kept: Bools
    first: Ints
    duration_s: Floats
    session: Ints
    time_us: Ints
    event: Ints
    page: Ints
    amount_minor: Ints
    fee_minor: Ints
    event_id: UInts


def draw_traffic(
    world: World,
    people: People,
    page_dwell: PageDwell,
    journeys: Journeys,
    rates: ExchangeRates,
    *,
    day: int,
    seed: int,
) -> Traffic:
    """Draw all sessions that start on a UTC day (days since 1970); they may end on the next.

    Raises:
        WorldError: a currency has no exchange rate on that day.
    """
    sessions = draw_sessions(world, people, day, seed)
    tariff = tariff_on(world, rates, day)
    payments = draw_payments(world, people, sessions, tariff, day=day, seed=seed)
    steps = draw_steps(journeys, people, sessions, payments, day=day, seed=seed)
    first = np.searchsorted(steps.session, np.arange(len(sessions)))
    elapsed_s = _elapsed(
        world, page_dwell, sessions, steps, first=first, rng=stream(seed, "dwell", day)
    )
    after = np.append(first[1:], len(steps.session))
    duration_s = elapsed_s[after - 1] if len(sessions) else np.zeros(0)
    time_us = np.rint((sessions.start_s[steps.session] + elapsed_s) * 1e6).astype(np.int64)
    amount, fee = _amounts(
        world, sessions, steps, payments, tariff, rng=stream(seed, "quotes", day)
    )
    number = (np.uint64(day) << np.uint64(32)) + np.arange(len(time_us), dtype=np.uint64)
    return Traffic(
        sessions=sessions,
        kept=_kept(world, sessions, duration_s),
        first=first,
        duration_s=duration_s,
        session=steps.session,
        time_us=day * DAY_S * 1_000_000 + time_us,
        event=steps.event,
        page=steps.page,
        amount_minor=amount,
        fee_minor=fee,
        event_id=mix64(number, salt=int(stream(seed, "event_id").integers(2**63))),
    )


def _elapsed(
    world: World,
    page_dwell: PageDwell,
    sessions: Sessions,
    steps: Steps,
    *,
    first: Ints,
    rng: np.random.Generator,
) -> Floats:
    """Seconds from the session's start to each event: the dwells of the events before it."""
    dwell = page_dwell.draw(
        rng, steps.page, sessions.corridor[steps.session], sessions.dwell[steps.session]
    )
    dwell = np.minimum(dwell, world.sessions.longest_dwell_s)
    before = np.cumsum(dwell) - dwell
    return np.asarray(before - before[first][steps.session])


def _kept(world: World, sessions: Sessions, duration_s: Floats) -> Bools:
    """Sessions long enough after the customer's session before; the day's first always is.

    Compared with every drawn session, kept or not: a little stricter, and free of a loop.
    """
    end_s = sessions.start_s + duration_s
    kept = np.ones(len(sessions), dtype=np.bool_)
    silence_s = sessions.start_s[1:] - end_s[:-1]
    same = sessions.customer[1:] == sessions.customer[:-1]
    kept[1:] = ~same | (silence_s >= world.sessions.shortest_silence_s)
    return kept


def _amounts(
    world: World,
    sessions: Sessions,
    steps: Steps,
    payments: Payments,
    tariff: Tariff,
    *,
    rng: np.random.Generator,
) -> tuple[Ints, Ints]:
    """Amounts and fees by event, in minor units: shape (m,), ABSENT without money.

    People try amounts: of repeated quotes the last is the one that is sent.
    """
    amount, fee = (np.full(len(steps.event), ABSENT, dtype=np.int64) for _ in range(2))
    rows = np.flatnonzero(np.isin(steps.event, _MONEY))
    corridor = sessions.corridor[steps.session[rows]]
    meant = payments.amount_minor[steps.session[rows]]
    tried = tariff.rounded(meant * lognormal(rng, world.sessions.quote_sigma, len(rows)), corridor)
    amount[rows] = np.where(steps.last[rows], meant, tried)
    fee[rows] = tariff.fee(amount[rows], corridor)
    return amount, fee
