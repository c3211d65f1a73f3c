"""Card testing: bursts of small payments with stolen cards, many of which fail."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from feature_repo.contracts.events import EVENT_TYPE_CODE, EventType
from streaming.simulator.enactment import ABSENT, Enacted, first_events
from streaming.simulator.fraud import draw_intruders, draw_victims
from streaming.simulator.knobs import World
from streaming.simulator.payments import CENTS, Tariff
from streaming.simulator.people import People
from streaming.simulator.randomness import Floats, Ints, lognormal, stream
from streaming.simulator.sessions import Origin, Scenario


def draw_card_tests(world: World, people: People, tariff: Tariff, day: int, seed: int) -> Enacted:
    """The bursts of a day: a login, then one payment and its answer after the other."""
    rng, knobs = stream(seed, "card_tests", day), world.fraud.card_tests
    rate = world.effects.card_testing * knobs.per_1000_customer_days / 1000
    customer = draw_victims(people, rate, day, rng)
    n = len(customer)
    sessions = replace(
        draw_intruders(world, people, customer, rng, day=day, seed=seed),
        origin=np.full(n, Origin.CARD_TEST.value),
        scenario=np.full(n, Scenario.CARD_TESTING.value),
    )
    payments = knobs.fewest_payments + rng.poisson(knobs.further_payments_mean, n)
    payment = np.repeat(np.arange(n), payments)
    corridor, m = sessions.corridor[payment], len(payment)
    usd = knobs.amount_usd.median * lognormal(rng, knobs.amount_usd.sigma, m)
    amount = tariff.rounded(usd * CENTS / tariff.cents[corridor], corridor)
    fee = tariff.fee(amount, corridor)
    failed = rng.random(m) < knobs.failure_chance
    answer = np.where(failed, EventType.PAYMENT_FAILED, EventType.PAYMENT_CONFIRMED)

    # A session's login, then its payments, each with the answer behind it.
    session = np.concatenate([np.arange(n), payment, payment])
    order = np.lexsort((_places(n, m), session))
    kinds = [
        *[EventType.LOGIN] * n,
        *[EventType.PAYMENT_SUBMITTED] * m,
        *[EventType(kind) for kind in answer.tolist()],
    ]
    pages = _pages(world)
    session = session[order]
    gap_s = rng.standard_exponential(len(session)) * knobs.seconds_between
    until = np.cumsum(gap_s)
    first = first_events(session, n)
    return Enacted(
        sessions=sessions,
        session=session,
        elapsed_s=_since(until, first, session),
        event=np.array([EVENT_TYPE_CODE[kind] for kind in kinds], dtype=np.int64)[order],
        page=np.array([pages[kind] for kind in kinds], dtype=np.int64)[order],
        amount_minor=np.concatenate([np.full(n, ABSENT), amount, amount])[order],
        fee_minor=np.concatenate([np.full(n, ABSENT), fee, fee])[order],
    )


def _places(n: int, m: int) -> Ints:
    """Sorts n logins, m payments and their m answers within their sessions."""
    return np.concatenate([np.full(n, -1), 2 * np.arange(m), 2 * np.arange(m) + 1])


def _since(until: Floats, first: Ints, session: Ints) -> Floats:
    return np.asarray(until - until[first][session])


def _pages(world: World) -> dict[EventType, int]:
    """The page of each type of event, as in the intent that frauds look like; 0 if not there."""
    names = [page.name for page in world.pages]
    intent = next(item for item in world.intents if item.name == world.fraud.intent)
    pages = {step.event: names.index(step.page) for step in reversed(intent.steps)}
    kinds = (
        EventType.LOGIN,
        EventType.PAYMENT_SUBMITTED,
        EventType.PAYMENT_CONFIRMED,
        EventType.PAYMENT_FAILED,
    )
    return {kind: pages.get(kind, 0) for kind in kinds}
