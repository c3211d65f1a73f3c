"""Who calls the call centre after a session, and when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streaming.simulator.arrays import Arrays
from streaming.simulator.enactment import Enacted
from streaming.simulator.follow_ups import truncated_exponential
from streaming.simulator.knobs import World
from streaming.simulator.people import People
from streaming.simulator.randomness import Bools, Floats, stream
from streaming.simulator.sessions import Origin

MOST_LIKELY = 0.9


@dataclass(frozen=True)
class Calls(Arrays):
    """What n sessions lead to: arrays of shape (n,).

    `chance` that the session leads to a call, whether it `happens`, and `after_s`, the seconds
    from the session's start to it.
    """

    chance: Floats
    happens: Bools
    after_s: Floats


def draw_calls(
    world: World, people: People, enacted: Enacted, kept: Bools, *, day: int, seed: int
) -> Calls:
    """Draw the calls that a day's kept sessions lead to, within a day of their start.

    Customer, age, persona and intent make calls more or less likely; a payment that failed for
    good leads to one by itself. Strangers in an account never call.
    """
    rng, knobs, effects = stream(seed, "calls", day), world.calls, world.effects
    sessions, n = enacted.sessions, len(enacted.sessions)
    by_intent = np.array([knobs.intents.get(intent.name, 1.0) for intent in world.intents])
    usual = knobs.chance * people.calls[sessions.customer]
    usual = np.minimum(usual * by_intent[sessions.intent] ** effects.callers, MOST_LIKELY)
    troubled = enacted.failed * min(knobs.failed_chance * effects.failure_calls, 1.0)
    chance = 1 - (1 - usual) * (1 - troubled)
    own = np.isin(sessions.origin, [Origin.VISIT, Origin.FOLLOW_UP])
    chance = np.where(own & kept, chance, 0.0)
    happens = rng.random(n) < chance
    after_s = enacted.duration_s + 3600 * truncated_exponential(
        rng, knobs.delay_hours_mean, knobs.longest_delay_hours, n
    )
    return Calls(chance, happens, after_s)
