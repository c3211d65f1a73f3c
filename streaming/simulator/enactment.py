"""Sessions acted out: their steps, how long each page is looked at, and the money in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from feature_repo.contracts.events import EVENT_TYPE_CODE, EventType
from streaming.simulator.dwell import PageDwell
from streaming.simulator.journeys import Journeys, Steps, draw_steps
from streaming.simulator.knobs import World
from streaming.simulator.payments import Payments, Tariff, draw_payments
from streaming.simulator.people import People
from streaming.simulator.randomness import Bools, Floats, Ints, lognormal, stream
from streaming.simulator.sessions import Sessions

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
class Enacted:
    """n sessions and their m events, by session and time.

    Shapes (m,): `session` indexes `sessions`; `elapsed_s` counts from the session's start; amounts
    are minor units of the send country's currency, ABSENT where the event has none.
    """

    sessions: Sessions
    session: Ints
    elapsed_s: Floats
    event: Ints
    page: Ints
    amount_minor: Ints
    fee_minor: Ints

    @cached_property
    def first(self) -> Ints:
        """Each session's first event: shape (n,)."""
        return first_events(self.session, len(self.sessions))

    @cached_property
    def duration_s(self) -> Floats:
        """From each session's first event to its last: shape (n,)."""
        if not len(self.sessions):
            return np.zeros(0)
        return np.asarray(self.elapsed_s[np.append(self.first[1:], len(self.session)) - 1])

    def has(self, kind: EventType) -> Bools:
        """Which sessions have an event of a type: shape (n,)."""
        rows = self.session[self.event == EVENT_TYPE_CODE[kind]]
        return np.bincount(rows, minlength=len(self.sessions)) > 0

    @cached_property
    def failed(self) -> Bools:
        """Which sessions' payment failed for good: shape (n,)."""
        return self.has(EventType.PAYMENT_FAILED) & ~self.has(EventType.PAYMENT_CONFIRMED)

    @classmethod
    def joined(cls, parts: Sequence[Enacted]) -> Enacted:
        """The sessions of all parts, one part after the other."""
        firsts = np.cumsum([0, *(len(part.sessions) for part in parts[:-1])])

        def column(name: str) -> npt.NDArray[Any]:
            return np.concatenate([getattr(part, name) for part in parts])

        shifted = [part.session + first for part, first in zip(parts, firsts, strict=True)]
        return cls(
            sessions=Sessions.joined([part.sessions for part in parts]),
            session=np.concatenate(shifted),
            elapsed_s=column("elapsed_s"),
            event=column("event"),
            page=column("page"),
            amount_minor=column("amount_minor"),
            fee_minor=column("fee_minor"),
        )


def enact(
    world: World,
    people: People,
    sessions: Sessions,
    *,
    page_dwell: PageDwell,
    journeys: Journeys,
    tariff: Tariff,
    day: int,
    seed: int,
    group: str = "",
) -> Enacted:
    """Act out sessions of a day; each `group` of them draws from streams of its own."""
    payments = draw_payments(world, people, sessions, tariff, stream(seed, f"payments{group}", day))
    steps = draw_steps(journeys, people, sessions, payments, stream(seed, f"journeys{group}", day))
    amount, fee = _amounts(
        world, sessions, steps, payments, tariff, rng=stream(seed, f"quotes{group}", day)
    )
    return Enacted(
        sessions=sessions,
        session=steps.session,
        elapsed_s=elapsed_seconds(
            world, page_dwell, sessions, steps, rng=stream(seed, f"dwell{group}", day)
        ),
        event=steps.event,
        page=steps.page,
        amount_minor=amount,
        fee_minor=fee,
    )


def first_events(session: Ints, n: int) -> Ints:
    """Where each of n sessions begins among events that are ordered by session: shape (n,)."""
    counts = np.bincount(session, minlength=n)
    return np.asarray(np.cumsum(counts) - counts)


def elapsed_seconds(
    world: World,
    page_dwell: PageDwell,
    sessions: Sessions,
    steps: Steps,
    *,
    rng: np.random.Generator,
) -> Floats:
    """Seconds from the session's start to each event: the dwells of the events before it."""
    dwell = page_dwell.draw(
        rng, steps.page, sessions.corridor[steps.session], sessions.dwell[steps.session]
    )
    dwell = np.minimum(dwell, world.sessions.longest_dwell_s)
    before = np.cumsum(dwell) - dwell
    first = first_events(steps.session, len(sessions))
    return np.asarray(before - before[first][steps.session])


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
