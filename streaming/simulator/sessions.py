"""The sessions of one day: who comes, when, on which corridor and device, and what for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from streaming.simulator.dwell import session_factor
from streaming.simulator.knobs import World
from streaming.simulator.people import People
from streaming.simulator.randomness import Bools, Floats, Ints, choose, stream

DAY_S = 86_400
SATURDAY = 5
NEW_RECIPIENT = 1 << 20  # numbers of recipients added during a session start here


@dataclass(frozen=True)
class Sessions:
    """n sessions of one UTC day, ordered by customer and start; arrays of shape (n,).

    `start_s` counts seconds from the day's 00:00 UTC; `device` indexes the channel's devices;
    `abroad` sessions come from an IP address of the receive country; `recipient` is the number of
    the customer's recipient that the session is about; `dwell` scales the pages' lambda.
    """

    customer: Ints
    start_s: Floats
    corridor: Ints
    channel: Ints
    device: Ints
    abroad: Bools
    intent: Ints
    new_recipient: Bools
    recipient: Ints
    dwell: Floats

    def __len__(self) -> int:
        return len(self.customer)

    def at(self, rows: Ints) -> Sessions:
        """The sessions at some rows, which may repeat."""
        return Sessions(**{item.name: getattr(self, item.name)[rows] for item in fields(self)})

    @classmethod
    def joined(cls, parts: Sequence[Sessions]) -> Sessions:
        """Sessions of several days, one after the other."""
        return cls(
            **{
                item.name: np.concatenate([getattr(part, item.name) for part in parts])
                for item in fields(cls)
            }
        )


def draw_sessions(world: World, people: People, day: int, seed: int) -> Sessions:
    """Draw the sessions that start on a day (days since 1970): Poisson habits, diurnal hours."""
    rng = stream(seed, "sessions", day)
    customer = np.repeat(np.arange(len(people)), rng.poisson(_rates(world, people, day)))
    n = len(customer)
    corridor, local_hour = people.corridor[customer], _local_hours(world, people, customer, rng)
    offsets = {country.code: country.utc_offset_hours for country in world.countries}
    offset = np.array([offsets[c.send] for c in world.corridors])[corridor]
    start_s = (local_hour - offset) % 24 * 3600
    order = np.lexsort((start_s, customer))
    customer, corridor, local_hour = customer[order], corridor[order], local_hour[order]

    second = rng.random(n) < world.people.second_corridor_use
    corridor = np.where(second, people.second_corridor[customer], corridor)
    preferred = rng.random(n) < world.sessions.preferred_channel_share
    channel = np.where(preferred, people.channel[customer], 1 - people.channel[customer])
    device = people.devices[customer, channel]
    edges = np.cumsum(people.intents, axis=1)[:, :-1]
    intent = (rng.random(n)[:, None] >= edges[customer]).sum(axis=1)
    chance = np.array([item.new_recipient_chance for item in world.intents])
    new_recipient = rng.random(n) < chance[intent]
    # The first recipients get most of the payments: the square of a uniform number leans low.
    known = (rng.random(n) ** 2 * people.recipients[customer]).astype(np.int64)
    added = NEW_RECIPIENT + day * 4096 + np.arange(n) % 4096
    return Sessions(
        customer=customer,
        start_s=start_s[order],
        corridor=corridor,
        channel=channel,
        device=device,
        abroad=rng.random(n) < world.people.travel_share,
        intent=intent,
        new_recipient=new_recipient,
        recipient=np.where(new_recipient, added, known),
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
    )


def _rates(world: World, people: People, day: int) -> Floats:
    """Expected sessions of each customer on the day; none before the sign-up."""
    weekday = (day + 3) % 7  # 1970-01-01 was a Thursday
    weights = np.array(world.clock.weekday_weights)
    rate = people.sessions_per_day * weights[weekday] / weights.mean()
    if weekday >= SATURDAY:
        rate = rate * people.weekend
    return np.where(people.signed_up_day <= day, rate, 0.0)


def _local_hours(world: World, people: People, customer: Ints, rng: np.random.Generator) -> Floats:
    """Local hours of day: the customer's own habit, or else the hours of everybody."""
    n = len(customer)
    own = people.peak_hour[customer] + world.people.habit_sigma_hours * rng.standard_normal(n)
    everybody = choose(np.array(world.clock.hour_weights), rng.random(n)) + rng.random(n)
    return np.where(rng.random(n) < world.people.habit_strength, own % 24, everybody)
