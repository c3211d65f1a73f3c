"""What a session would send, what it costs on its corridor, and whether it goes through."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from feature_repo.contracts.money import ExchangeRates, minor_unit_exponent
from streaming.simulator.knob_types import WorldError
from streaming.simulator.knobs import World
from streaming.simulator.people import People
from streaming.simulator.randomness import Bools, Floats, Ints, lognormal
from streaming.simulator.sessions import DAY_S, Sessions

CENTS = 100


@dataclass(frozen=True)
class Tariff:
    """Fees by corridor on one day, in the send country's currency; arrays of shape (corridors,).

    `cents`: US cents for one minor unit; `round_to`: minor units that amounts are multiples of;
    `fixed`, `rate`: the fee in minor units is `fixed + rate * amount`.
    """

    cents: Floats
    round_to: Floats
    fixed: Floats
    rate: Floats

    def rounded(self, amount_minor: Floats, corridor: Ints) -> Ints:
        """Round amounts to what people send, at least one step."""
        step = self.round_to[corridor]
        return (np.maximum(np.rint(amount_minor / step), 1) * step).astype(np.int64)

    def fee(self, amount_minor: Ints, corridor: Ints) -> Ints:
        """Fees in minor units."""
        fee = self.fixed[corridor] + self.rate[corridor] * amount_minor
        return np.rint(fee).astype(np.int64)


def tariff_on(world: World, rates: ExchangeRates, day: int) -> Tariff:
    """The tariff of a day (days since 1970).

    Raises:
        WorldError: a send country's currency has no exchange rate on that day.
    """
    currencies = {country.code: country.currency for country in world.countries}
    currency = [currencies[corridor.send] for corridor in world.corridors]
    at = np.full(len(currency), day * DAY_S * 1_000_000, dtype=np.int64)
    cents = rates.factors(pa.array(currency), at)
    for name, factor in zip(currency, cents, strict=True):
        if np.isnan(factor):
            raise WorldError(
                "countries.currency",
                name,
                f"a currency with an exchange rate on {np.datetime64(day, 'D')}",
                "add a dated rate to the exchange-rate file, or simulate a later day",
            )
    major = np.array([10.0 ** minor_unit_exponent(name) for name in currency])
    return Tariff(
        cents=cents,
        round_to=world.payments.round_to_major * major,
        fixed=np.array([c.fee_fixed_usd for c in world.corridors]) * CENTS / cents,
        rate=np.array([c.fee_rate for c in world.corridors]),
    )


@dataclass(frozen=True)
class Payments:
    """What n sessions would pay if they get that far: arrays of shape (n,)."""

    amount_minor: Ints
    declined: Bools
    retrying: Bools
    retry_declined: Bools


def draw_payments(
    world: World, people: People, sessions: Sessions, tariff: Tariff, rng: np.random.Generator
) -> Payments:
    """Draw amount and fate of each session's payment.

    An amount above the balance fails more often: the snapshot at the login shows the balance.
    """
    knobs = world.payments
    n, customer = len(sessions), sessions.customer
    usd = people.amount_usd[customer] * lognormal(rng, world.people.amount_sigma, n)
    usd = usd * sessions.amount
    cents = np.maximum(usd, knobs.smallest_usd) * CENTS
    corridor_cents = tariff.cents[sessions.corridor]
    amount_minor = tariff.rounded(cents / corridor_cents, sessions.corridor)
    over = amount_minor * corridor_cents > sessions.situation.balance_usd * CENTS
    chance = knobs.failure_chance + knobs.failure_chance_over_balance * over
    declined = rng.random(n) < chance
    retrying = declined & (rng.random(n) < knobs.retry_chance)
    return Payments(amount_minor, declined, retrying, retrying & (rng.random(n) < chance))
