"""Sessions that look where the money is, some hours after a payment that failed for good.

They belong to the traffic of the day whose payment failed, also where they start on the next.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from streaming.simulator.dwell import session_factor
from streaming.simulator.enactment import Enacted
from streaming.simulator.intents import certain, situation_at
from streaming.simulator.knobs import World
from streaming.simulator.people import People
from streaming.simulator.randomness import Bools, Floats, stream
from streaming.simulator.sessions import Origin, Scenario, Sessions, offsets_hours


def draw_follow_ups(
    world: World, people: People, visits: Enacted, kept: Bools, *, day: int, seed: int
) -> Sessions:
    """The sessions that follow a day's kept visits, by customer and start of the visit.

    Args:
        kept: shape (n,): which visits took place.
    """
    rng, knobs = stream(seed, "follow_ups", day), world.follow_ups
    failed = np.flatnonzero(visits.failed & kept)
    chance = min(world.effects.failure_tracking * knobs.chance, 1.0)
    rows = failed[rng.random(len(failed)) < chance]
    before = visits.sessions.at(rows)
    n = len(rows)
    delay_s = world.sessions.shortest_silence_s + 3600 * truncated_exponential(
        rng, knobs.delay_hours_mean, knobs.longest_delay_hours, n
    )
    start_s = before.start_s + visits.duration_s[rows] + delay_s
    intent, chances = certain(world, knobs.intent, n)
    situation = situation_at(world, people, before.customer, start_s, day=day, seed=seed)
    return replace(
        before,
        start_s=start_s,
        intent=intent,
        new_recipient=np.zeros(n, dtype=np.bool_),
        dwell=session_factor(
            world,
            people,
            day=day,
            customer=before.customer,
            local_hour=(start_s / 3600 + offsets_hours(world)[before.corridor]) % 24,
            channel=before.channel,
            device=before.device,
            rng=rng,
        ),
        amount=np.ones(n),
        origin=np.full(n, Origin.FOLLOW_UP.value),
        scenario=np.full(n, Scenario.NONE.value),
        led_by=rows,
        situation=replace(situation, chances=chances),
    )


def truncated_exponential(rng: np.random.Generator, mean: float, longest: float, n: int) -> Floats:
    """n exponential times none of which is longer than `longest`, in the unit of both."""
    return np.asarray(-mean * np.log1p(-rng.random(n) * -np.expm1(-longest / mean)))
