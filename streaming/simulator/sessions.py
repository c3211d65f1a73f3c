"""The sessions of one day: who comes, when, on which corridor and device, and what for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from streaming.simulator.arrays import Arrays
from streaming.simulator.cycles import need_at, visit_rates
from streaming.simulator.dwell import session_factor
from streaming.simulator.intents import Situation, draw_intents, situation_at
from streaming.simulator.knobs import World
from streaming.simulator.people import People
from streaming.simulator.randomness import Bools, Floats, Ints, choose, stream

DAY_S = 86_400
SATURDAY = 5
NOON = 0.5
NEW_RECIPIENT = 1 << 20  # numbers of recipients added during a session start here


class Origin(IntEnum):
    """How a session came about."""

    VISIT = 0
    FOLLOW_UP = 1
    TAKEOVER = 2
    CARD_TEST = 3


class Scenario(IntEnum):
    """What fraud a session's payments are."""

    NONE = 0
    ACCOUNT_TAKEOVER = 1
    MULE = 2
    CARD_TESTING = 3


@dataclass(frozen=True)
class Sessions(Arrays):
    """n sessions of one UTC day; arrays of n rows.

    `start_s` counts seconds from the day's 00:00 UTC; `device` indexes the channel's devices;
    `ip` indexes `countries_of(world)`; `recipient` is the number of the customer's recipient that
    the session is about; `dwell` scales the pages' lambda; `amount` is the payment against the
    customer's usual one; `led_by` is the session of the day that this one follows up, or -1.
    """

    customer: Ints
    start_s: Floats
    corridor: Ints
    channel: Ints
    device: Ints
    ip: Ints
    intent: Ints
    new_recipient: Bools
    recipient: Ints
    dwell: Floats
    amount: Floats
    origin: Ints
    scenario: Ints
    led_by: Ints
    situation: Situation


def countries_of(world: World) -> list[str]:
    """All countries of the corridors, in alphabetical order."""
    return sorted({code for corridor in world.corridors for code in corridor.name.split("-")})


def end_codes(world: World) -> tuple[Ints, Ints]:
    """Each corridor's send and receive country, as places in `countries_of`."""
    countries = countries_of(world)
    return (
        np.array([countries.index(corridor.send) for corridor in world.corridors]),
        np.array([countries.index(corridor.receive) for corridor in world.corridors]),
    )


def offsets_hours(world: World) -> Floats:
    """Hours from UTC where each corridor begins."""
    offsets = {country.code: country.utc_offset_hours for country in world.countries}
    return np.array([offsets[corridor.send] for corridor in world.corridors])


def added_recipients(day: int, n: int, first: int = 0) -> Ints:
    """Numbers for n recipients that are added on a day."""
    return NEW_RECIPIENT + day * 4096 + (first + np.arange(n)) % 4096


def draw_sessions(world: World, people: People, day: int, seed: int) -> Sessions:
    """Draw the visits that start on a day (days since 1970), by customer and start.

    Poisson habits, denser when the need to send is near; diurnal hours.
    """
    rng = stream(seed, "sessions", day)
    customer = np.repeat(np.arange(len(people)), rng.poisson(_rates(world, people, day, seed)))
    n = len(customer)
    corridor, local_hour = people.corridor[customer], _local_hours(world, people, customer, rng)
    start_s = (local_hour - offsets_hours(world)[corridor]) % 24 * 3600
    order = np.lexsort((start_s, customer))
    customer, corridor, local_hour = customer[order], corridor[order], local_hour[order]
    start_s = start_s[order]

    second = rng.random(n) < world.people.second_corridor_use
    corridor = np.where(second, people.second_corridor[customer], corridor)
    preferred = rng.random(n) < world.sessions.preferred_channel_share
    channel = np.where(preferred, people.channel[customer], 1 - people.channel[customer])
    device = people.devices[customer, channel]
    situation = situation_at(world, people, customer, start_s, day=day, seed=seed)
    intent = draw_intents(situation.chances, rng.random(n))
    chance = np.array([item.new_recipient_chance for item in world.intents])
    new_recipient = rng.random(n) < chance[intent]
    # The first recipients get most of the payments: the square of a uniform number leans low.
    known = (rng.random(n) ** 2 * people.recipients[customer]).astype(np.int64)
    at_home, away = end_codes(world)
    travels = rng.random(n) < world.people.travel_share
    return Sessions(
        customer=customer,
        start_s=start_s,
        corridor=corridor,
        channel=channel,
        device=device,
        ip=np.where(travels, away[corridor], at_home[corridor]),
        intent=intent,
        new_recipient=new_recipient,
        recipient=np.where(new_recipient, added_recipients(day, n), known),
        dwell=session_factor(
            world,
            people,
            day=day,
            customer=customer,
            local_hour=local_hour,
            channel=channel,
            device=device,
            rng=rng,
        ),
        amount=np.ones(n),
        origin=np.full(n, Origin.VISIT.value),
        scenario=np.full(n, Scenario.NONE.value),
        led_by=np.full(n, -1),
        situation=situation,
    )


def _rates(world: World, people: People, day: int, seed: int) -> Floats:
    """Expected sessions of each customer on the day; none before the sign-up."""
    weekday = (day + 3) % 7  # 1970-01-01 was a Thursday
    weights = np.array(world.clock.weekday_weights)
    rate = people.sessions_per_day * weights[weekday] / weights.mean()
    if weekday >= SATURDAY:
        rate = rate * people.weekend
    everybody = np.arange(len(people))
    need = need_at(world, people, everybody, np.full(len(people), day + NOON), seed)
    return np.where(people.signed_up_day <= day, rate * visit_rates(world, need), 0.0)


def _local_hours(world: World, people: People, customer: Ints, rng: np.random.Generator) -> Floats:
    """Local hours of day: the customer's own habit, or else the hours of everybody."""
    n = len(customer)
    own = people.peak_hour[customer] + world.people.habit_sigma_hours * rng.standard_normal(n)
    everybody = choose(np.array(world.clock.hour_weights), rng.random(n)) + rng.random(n)
    return np.where(rng.random(n) < world.people.habit_strength, own % 24, everybody)
