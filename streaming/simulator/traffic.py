"""One day's traffic: its sessions turned into events with times and amounts.

A day is the unit of randomness: its traffic depends on world, people, seed and day alone, so any
windows cut from it fit together without a gap or a double.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feature_repo.contracts.money import ExchangeRates
from streaming.simulator.calls import Calls, draw_calls
from streaming.simulator.card_testing import draw_card_tests
from streaming.simulator.dwell import PageDwell
from streaming.simulator.enactment import Enacted, enact
from streaming.simulator.follow_ups import draw_follow_ups
from streaming.simulator.fraud import draw_takeovers, with_mules
from streaming.simulator.journeys import Journeys
from streaming.simulator.knobs import World
from streaming.simulator.payments import tariff_on
from streaming.simulator.people import People
from streaming.simulator.randomness import Bools, Floats, Ints
from streaming.simulator.sessions import DAY_S, Sessions, draw_sessions

US_PER_S = 1_000_000


@dataclass(frozen=True)
class Traffic:
    """The n sessions of a day and their m events, ordered by session and time.

    Shapes: `kept`, `first`, `start_us`, `duration_s` (n,): sessions too soon after the one before
    are not kept, `first` is a session's first event. The rest (m,): `session` indexes `sessions`;
    amounts are minor units of the send country's currency, ABSENT where the event has none.
    """

    day: int
    sessions: Sessions
    kept: Bools
    calls: Calls
    first: Ints
    start_us: Ints
    duration_s: Floats
    session: Ints
    time_us: Ints
    event: Ints
    page: Ints
    amount_minor: Ints
    fee_minor: Ints


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
    """Draw all sessions of a UTC day (days since 1970); they may end, or follow up, on the next.

    Raises:
        WorldError: a currency has no exchange rate on that day.
    """
    tariff = tariff_on(world, rates, day)

    def enacted(sessions: Sessions, group: str) -> Enacted:
        return enact(
            world,
            people,
            sessions,
            page_dwell=page_dwell,
            journeys=journeys,
            tariff=tariff,
            day=day,
            seed=seed,
            group=group,
        )

    visits = draw_sessions(world, people, day, seed)
    main = enacted(with_mules(world, people, visits, day, seed), "")
    kept = _kept(world, main.sessions, main.duration_s)
    follow_ups = draw_follow_ups(world, people, main, kept, day=day, seed=seed)
    takeovers = draw_takeovers(world, people, day, seed)
    beside = enacted(Sessions.joined([follow_ups, takeovers]), ".beside")
    tests = draw_card_tests(world, people, tariff, day, seed)
    # The visits come first: `led_by` of the others says which of them.
    everything = Enacted.joined([main, beside, tests])
    kept = _kept(world, everything.sessions, everything.duration_s)
    led_by = everything.sessions.led_by
    kept &= (led_by < 0) | kept[led_by]
    start_s = everything.sessions.start_s
    time_us = np.rint((start_s[everything.session] + everything.elapsed_s) * US_PER_S)
    time_us = day * DAY_S * US_PER_S + time_us.astype(np.int64)
    first = everything.first
    return Traffic(
        day=day,
        sessions=everything.sessions,
        kept=kept,
        calls=draw_calls(world, people, everything, kept, day=day, seed=seed),
        first=first,
        start_us=time_us[first],
        duration_s=everything.duration_s,
        session=everything.session,
        time_us=time_us,
        event=everything.event,
        page=everything.page,
        amount_minor=everything.amount_minor,
        fee_minor=everything.fee_minor,
    )


def _kept(world: World, sessions: Sessions, duration_s: Floats) -> Bools:
    """Sessions long enough after the customer's session before; the day's first always is.

    Compared with every drawn session, kept or not: a little stricter, and free of a loop.
    """
    # Nearly in order already, which this sort makes use of: two days in seconds a customer.
    order = np.argsort(sessions.customer * (4.0 * DAY_S) + sessions.start_s, kind="stable")
    start_s, customer = sessions.start_s[order], sessions.customer[order]
    silence_s = start_s[1:] - (start_s + duration_s[order])[:-1]
    same = customer[1:] == customer[:-1]
    kept = np.ones(len(sessions), dtype=np.bool_)
    kept[order[1:]] = ~same | (silence_s >= world.sessions.shortest_silence_s)
    return kept
