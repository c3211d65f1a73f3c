"""How customers stand: balances go up and down for some days, and intents follow a little later.

Like cycles, a function of customer and instant, by a hash of (customer, spell).
"""

from __future__ import annotations

import numpy as np

from streaming.simulator.knobs import World
from streaming.simulator.people import People
from streaming.simulator.randomness import Floats, Ints, choose, hashed_uniforms, lognormal, stream


def fortune_at(world: World, people: People, customer: Ints, at_days: Floats, seed: int) -> Ints:
    """How n customers stand at n instants (days since 1970): codes of the world's fortunes."""
    turns = at_days / people.fortune_days[customer] - people.fortune_phase[customer]
    number = np.floor(turns).astype(np.int64)
    (draw, _) = hashed_uniforms(seed, "fortune", customer, number)
    return choose(np.array([item.share for item in world.finance.fortunes]), draw)


def balances_usd(
    world: World, people: People, customer: Ints, fortune: Ints, *, day: int, seed: int
) -> Floats:
    """Balances in US dollars of n customers on a day, shape (n,), as they stand."""
    noise = lognormal(stream(seed, "balance", day), world.people.balance_sigma_daily, len(people))
    factor = np.array([item.balance for item in world.finance.fortunes])
    return np.asarray(people.balance_usd[customer] * noise[customer] * factor[fortune])


def balances_at_midnight_usd(world: World, people: People, day: int, seed: int) -> Floats:
    """Everybody's balance in US dollars at 00:00 UTC of a day (days since 1970)."""
    everybody = np.arange(len(people))
    fortune = fortune_at(world, people, everybody, np.full(len(people), float(day)), seed)
    return balances_usd(world, people, everybody, fortune, day=day, seed=seed)


def fortune_tilts(world: World) -> Floats:
    """What intents' weights are multiplied by: shape (fortunes, intents)."""
    names = [intent.name for intent in world.intents]
    tilts = [[one.intents.get(name, 0.0) for name in names] for one in world.finance.fortunes]
    return np.exp(world.effects.finance * np.array(tilts))
