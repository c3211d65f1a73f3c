"""Fraud in customers' accounts: strangers who take them over, and recipients who are mules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from streaming.simulator.counterparties import MULE
from streaming.simulator.dwell import session_factor
from streaming.simulator.intents import certain, situation_at
from streaming.simulator.knobs import World
from streaming.simulator.people import People
from streaming.simulator.randomness import Ints, choose, lognormal, mix64, stream
from streaming.simulator.sessions import (
    DAY_S,
    Origin,
    Scenario,
    Sessions,
    added_recipients,
    countries_of,
    end_codes,
    offsets_hours,
)


def with_mules(world: World, people: People, sessions: Sessions, day: int, seed: int) -> Sessions:
    """The day's visits; in some of them the customer is talked into paying a mule.

    A mule is paid by customers of one receive country for some days, then another one follows.
    """
    knobs = world.fraud.mules
    mules = max(1, round(len(people) / knobs.customers_per_mule))
    mean = world.effects.mules * len(people) * knobs.per_1000_customer_days / 1000 / mules
    paying, _ = certain(world, world.fraud.intent, 1)
    receive = np.array([corridor.receive for corridor in world.corridors])
    weights = np.array([corridor.usd_millions for corridor in world.corridors])
    free = sessions.intent == paying[0]
    recipient, scenario = sessions.recipient.copy(), sessions.scenario.copy()
    amount, new = sessions.amount.copy(), sessions.new_recipient.copy()
    salt = int(stream(seed, "mules").integers(2**63))
    for mule in range(mules):
        turn = (day + mule) // knobs.days
        country = receive[choose(weights, stream(seed, "mules", turn, mule).random(1))]
        rng = stream(seed, "mule_hits", day, mule)
        victims = np.flatnonzero(free & (receive[sessions.corridor] == country))
        count = min(int(rng.poisson(mean)), len(victims))
        hit = rng.permutation(victims)[:count]
        number = mix64(np.array([(turn << 32) + mule], dtype=np.uint64), salt)[0]
        recipient[hit] = MULE + int(number >> np.uint64(34))
        amount[hit] = knobs.amount.median * lognormal(rng, knobs.amount.sigma, count)
        scenario[hit], new[hit], free[hit] = Scenario.MULE, True, False
    return replace(
        sessions, recipient=recipient, scenario=scenario, amount=amount, new_recipient=new
    )


def draw_takeovers(world: World, people: People, day: int, seed: int) -> Sessions:
    """Sessions of strangers: another device, an IP address abroad, haste, a larger payment."""
    rng, knobs = stream(seed, "takeovers", day), world.fraud.takeovers
    rate = world.effects.account_takeover * knobs.per_1000_customer_days / 1000
    customer = draw_victims(people, rate, day, rng)
    intruders = draw_intruders(world, people, customer, rng, day=day, seed=seed)
    n = len(customer)
    known = (rng.random(n) * people.recipients[customer]).astype(np.int64)
    new = rng.random(n) < knobs.new_recipient
    at_home, _ = end_codes(world)
    abroad = rng.random(n) < knobs.abroad
    own = people.devices[customer, intruders.channel]
    return replace(
        intruders,
        device=np.where(rng.random(n) < knobs.other_device, intruders.device, own),
        ip=np.where(abroad, intruders.ip, at_home[intruders.corridor]),
        new_recipient=new,
        recipient=np.where(new, intruders.recipient, known),
        dwell=intruders.dwell * knobs.dwell,
        amount=knobs.amount.median * lognormal(rng, knobs.amount.sigma, n),
        origin=np.full(n, Origin.TAKEOVER.value),
        scenario=np.full(n, Scenario.ACCOUNT_TAKEOVER.value),
    )


def draw_victims(people: People, rate: float, day: int, rng: np.random.Generator) -> Ints:
    """The customers who are hit on a day, at so many a customer signed up by then."""
    known = np.flatnonzero(people.signed_up_day <= day)
    count = int(rng.poisson(rate * len(known)))
    return np.unique(known[rng.integers(0, max(len(known), 1), count)])


def draw_intruders(
    world: World, people: People, customer: Ints, rng: np.random.Generator, *, day: int, seed: int
) -> Sessions:
    """Sessions of strangers in n accounts: any hour, any channel, not the customer's device.

    From an IP address of any country, each with a recipient that the customer does not know.
    """
    n = len(customer)
    corridor = people.corridor[customer]
    start_s = rng.random(n) * DAY_S
    channel = rng.integers(0, len(world.channels), n)
    devices = np.array([len(item.devices) for item in world.channels])[channel]
    other = 1 + (rng.random(n) * (devices - 1)).astype(np.int64)
    device = (people.devices[customer, channel] + other) % devices
    intent, chances = certain(world, world.fraud.intent, n)
    situation = situation_at(world, people, customer, start_s, day=day, seed=seed)
    return Sessions(
        customer=customer,
        start_s=start_s,
        corridor=corridor,
        channel=channel,
        device=device,
        ip=rng.integers(0, len(countries_of(world)), n),
        intent=intent,
        new_recipient=np.ones(n, dtype=np.bool_),
        recipient=added_recipients(day, n, first=2048 + int(rng.integers(1024))),
        dwell=session_factor(
            world,
            people,
            day=day,
            customer=customer,
            local_hour=(start_s / 3600 + offsets_hours(world)[corridor]) % 24,
            channel=channel,
            device=device,
            rng=rng,
        ),
        amount=np.ones(n),
        origin=np.full(n, Origin.VISIT.value),
        scenario=np.full(n, Scenario.NONE.value),
        led_by=np.full(n, -1),
        situation=replace(situation, chances=chances),
    )
