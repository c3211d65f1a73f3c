"""What a session is for: the customer's own mix, drifting, tilted by need and by means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streaming.simulator.arrays import Arrays
from streaming.simulator.cycles import Need, need_at, need_tilts
from streaming.simulator.finances import balances_usd, fortune_at, fortune_tilts
from streaming.simulator.knobs import World
from streaming.simulator.people import People
from streaming.simulator.randomness import Floats, Ints


@dataclass(frozen=True)
class Situation(Arrays):
    """How n customers stand as n sessions begin: arrays of n rows.

    Attributes:
        need: position in the customer's cycle.
        fortune: code of the world's fortunes, as the balance shows it.
        balance_usd: shape (n,).
        drift: share of the customer's second mix of intents, shape (n,).
        chances: of each intent, shape (n, intents); rows add up to 1.
    """

    need: Need
    fortune: Ints
    balance_usd: Floats
    drift: Floats
    chances: Floats

    def __len__(self) -> int:
        return len(self.fortune)


def situation_at(
    world: World, people: People, customer: Ints, start_s: Floats, *, day: int, seed: int
) -> Situation:
    """The situation of n customers at n instants, seconds from a day's 00:00 UTC.

    What people come for follows their means with a delay: the balance at one login tells more of
    the next session than of its own.
    """
    at_days = day + start_s / 86_400
    need = need_at(world, people, customer, at_days, seed)
    fortune = fortune_at(world, people, customer, at_days, seed)
    felt = fortune_at(world, people, customer, at_days - world.finance.delay_days, seed)
    turns = at_days / people.drift_days[customer] + people.drift_phase[customer]
    drift = world.effects.drift * (0.5 - 0.5 * np.cos(2 * np.pi * turns))
    weights = people.intents[customer] + drift[:, None] * people.drifts_to[customer]
    weights *= need_tilts(world)[need.spell, need.stage]
    weights *= fortune_tilts(world)[felt]
    weights /= weights.sum(axis=1, keepdims=True)
    balance = balances_usd(world, people, customer, fortune, day=day, seed=seed)
    return Situation(need, fortune, balance, drift, weights)


def draw_intents(chances: Floats, u: Floats) -> Ints:
    """An intent a session, by its chances: shapes (n, intents) and (n,) -> (n,)."""
    edges = np.cumsum(chances[:, :-1], axis=1)
    return np.asarray((u[:, None] >= edges).sum(axis=1))


def certain(world: World, intent: str, n: int) -> tuple[Ints, Floats]:
    """The intent of n sessions whose purpose is given, and its chances: (n,), (n, intents)."""
    code = [item.name for item in world.intents].index(intent)
    chances = np.zeros((n, len(world.intents)))
    chances[:, code] = 1.0
    return np.full(n, code), chances
