"""How long people stay on a page: Weibull with k < 1, by page and corridor, scaled by session.

k < 1 is negative ageing: the longer somebody has stayed, the less likely they leave. Source: Liu,
White and Dumais, SIGIR 2010, on Web pages; inspired by it, since corridors and the factors of
customer, device, age, tenure and hour are this simulator's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from streaming.simulator.knobs import World
from streaming.simulator.people import People
from streaming.simulator.randomness import Floats, Ints, lognormal, stream

DAYS_PER_YEAR = 365.0


@dataclass(frozen=True)
class PageDwell:
    """The planted parameters: `k` and `lambda_s`, both of shape (pages, corridors)."""

    k: Floats
    lambda_s: Floats

    def draw(self, rng: np.random.Generator, page: Ints, corridor: Ints, factor: Floats) -> Floats:
        """Draw n dwell times in seconds: `factor` scales lambda of the page on the corridor."""
        cell = page * self.k.shape[1] + corridor
        exponential = rng.standard_exponential(len(page))
        inverse_k = (1 / self.k).ravel()[cell]
        return np.asarray(np.power(exponential, inverse_k) * self.lambda_s.ravel()[cell] * factor)

    def as_frame(self, world: World) -> pl.DataFrame:
        """One row a page and corridor, for the truth."""
        pages, corridors = self.k.shape
        return pl.DataFrame(
            {
                "page": np.repeat([page.name for page in world.pages], corridors),
                "corridor": np.tile([corridor.name for corridor in world.corridors], pages),
                "k": self.k.ravel(),
                "lambda_s": self.lambda_s.ravel(),
            }
        )


def draw_page_dwell(world: World, seed: int) -> PageDwell:
    """Draw the parameters by page and corridor around the pages' own; k stays below 1."""
    shape = (len(world.pages), len(world.corridors))
    cells = shape[0] * shape[1]
    strength = world.effects.duration_corridor
    spread_k = lognormal(stream(seed, "dwell.k"), strength * world.dwell.corridor_k_sigma, cells)
    spread_lambda = lognormal(
        stream(seed, "dwell.lambda"), strength * world.dwell.corridor_lambda_sigma, cells
    )
    k = np.array([page.k for page in world.pages])[:, None] * spread_k.reshape(shape)
    lambda_s = np.array([page.lambda_s for page in world.pages])[:, None] * spread_lambda.reshape(
        shape
    )
    return PageDwell(np.minimum(k, world.dwell.largest_k), lambda_s)


def session_factor(
    world: World,
    people: People,
    *,
    day: int,
    customer: Ints,
    local_hour: Floats,
    channel: Ints,
    device: Ints,
    rng: np.random.Generator,
) -> Floats:
    """The factor of each session on all its dwell times: all arguments and the result (n,).

    Customer x channel x device x tenure x hour of day x a draw of its own. All but the first and
    the last are visible at the session's first event.
    """
    knobs, effects = world.sessions, world.effects
    most = max(len(c.devices) for c in world.channels)
    device_dwell = np.ones((len(world.channels), most))
    for at, item in enumerate(world.channels):
        device_dwell[at, : len(item.devices)] = [d.dwell * item.dwell for d in item.devices]
    tenure_years = np.maximum(day - people.signed_up_day[customer], 1) / DAYS_PER_YEAR
    swing = np.cos(2 * np.pi * (local_hour - world.clock.slow_hour) / 24)
    return np.asarray(
        people.dwell[customer]
        * device_dwell[channel, device] ** effects.duration_device
        * tenure_years ** (effects.duration_tenure * knobs.tenure_dwell_exponent)
        * (1 + effects.duration_hour * world.clock.dwell_swing * swing)
        * lognormal(rng, knobs.session_sigma, len(customer))
    )
