"""The need to send money: cycles of a customer's own length, each beginning with a spell.

Where a customer stands is a function of customer and instant, by a hash of (customer, cycle): no
day has to be drawn before another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streaming.simulator.arrays import Arrays
from streaming.simulator.knobs import World
from streaming.simulator.people import People
from streaming.simulator.randomness import Floats, Ints, choose, hashed_uniforms

AWAY = 0  # no stage of a spell
STAGES = 3
# A spell takes at most this share of its cycle, so that it never runs into the next one.
_LONGEST_SPELL = 0.75


@dataclass(frozen=True)
class Need(Arrays):
    """Where n customers stand in their cycle: arrays of shape (n,).

    `stage`: AWAY, or 1.. of the stages of `spell`; `position`: share of the cycle gone by, from
    the beginning of its spell, below 0 before it.
    """

    stage: Ints
    spell: Ints
    position: Floats


def need_at(world: World, people: People, customer: Ints, at_days: Floats, seed: int) -> Need:
    """The need of n customers at n instants (days since 1970, with fractions)."""
    knobs = world.cycle
    length = people.cycle_days[customer]
    turns = at_days / length - people.cycle_phase[customer]
    number = np.floor(turns).astype(np.int64)
    late, kind = hashed_uniforms(seed, "cycle", customer, number)
    # What is left of the number is as uniform as the whole: above `loyalty` it draws the kind.
    other = (kind - knobs.loyalty) / max(1 - knobs.loyalty, 2.0**-32)
    drawn = choose(np.array([item.share for item in knobs.spells]), np.clip(other, 0, 1))
    spell = np.where(kind < knobs.loyalty, people.spell[customer], drawn)
    position = turns - number - knobs.jitter * late
    ends = np.cumsum([[stage.days for stage in item.stages] for item in knobs.spells], axis=1)
    pace = np.minimum(people.pace[customer], _LONGEST_SPELL * length / ends[spell, -1])
    since = position * length / pace
    stage = (since >= 0).astype(np.int64)
    for column in range(STAGES - 1):
        stage += since >= ends[spell, column]
    return Need(np.where(since < ends[spell, -1], stage, AWAY), spell, position)


def visit_rates(world: World, need: Need) -> Floats:
    """How many times as often customers come, by their need: shape (n,)."""
    table = np.array(
        [[world.cycle.away_rate, *(s.rate for s in spell.stages)] for spell in world.cycle.spells]
    )
    return np.asarray((table**world.effects.cycle)[need.spell, need.stage])


def need_tilts(world: World) -> Floats:
    """What intents' weights are multiplied by: shape (spells, 1 + STAGES, intents)."""
    names = [intent.name for intent in world.intents]
    tilts = [
        [[0.0] * len(names)]
        + [[stage.intents.get(name, 0.0) for name in names] for stage in spell.stages]
        for spell in world.cycle.spells
    ]
    return np.exp(world.effects.cycle * np.array(tilts))
