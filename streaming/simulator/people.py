"""The customers: who they are, what they come for and when. A function of world and seed alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np

from streaming.simulator.knob_types import Between
from streaming.simulator.knobs import World
from streaming.simulator.randomness import Bools, Floats, Ints, choose, lognormal, stream

MOST_RECIPIENTS = 60
EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class People:
    """n customers as arrays of shape (n,); codes index the world's lists.

    Attributes:
        corridor: main corridor; `second_corridor` is the same one where there is no second.
        signed_up_day: days since 1970.
        income_usd, balance_usd, amount_usd: a month's income, the usual balance and payment.
        sessions_per_day: mean over the week; `weekend` scales Saturdays and Sundays.
        peak_hour: local hour of day that the customer keeps to.
        channel: preferred channel; `devices[:, c]`, shape (n, 2), the device used on channel c.
        dwell: factor on every page's scale; `repeats`: factor on every step's repeats.
        intents: shape (n, intents), each row adds up to 1; `drifts_to`, same shape, is what lies
            between it and the second mix that the customer drifts to and back.
        drift_days, drift_phase: how long that takes, and where in it 1970 began.
        cycle_days, cycle_phase: likewise of the need to send; `spell` is the kind of its spells
            that the customer mostly has, which last `pace` times as long as usual.
        fortune_days, fortune_phase: likewise of the balance's ups and downs.
        calls: factor on the chance to call after a session.
    """

    persona: Ints
    corridor: Ints
    second_corridor: Ints
    age_band: Ints
    kyc_level: Ints
    recipients: Ints
    signed_up_day: Ints
    income_usd: Floats
    balance_usd: Floats
    amount_usd: Floats
    sessions_per_day: Floats
    weekend: Floats
    peak_hour: Floats
    channel: Ints
    devices: Ints
    dwell: Floats
    repeats: Floats
    intents: Floats
    drifts_to: Floats
    drift_days: Floats
    drift_phase: Floats
    cycle_days: Floats
    cycle_phase: Floats
    spell: Ints
    pace: Floats
    fortune_days: Floats
    fortune_phase: Floats
    calls: Floats

    def __len__(self) -> int:
        return len(self.persona)

    def ids(self) -> list[str]:
        """Customer ids, by number: the same number is the same customer in every window."""
        return [f"c{number:07d}" for number in range(len(self))]


def draw_people(world: World, customers: int, seed: int) -> People:
    """Draw customers 0..customers-1; the first ones are the same however many are drawn."""
    knobs, effects = world.people, world.effects

    def uniform(name: str) -> Floats:
        return stream(seed, f"people.{name}").random(customers)

    def factor(name: str, sigma: float) -> Floats:
        return lognormal(stream(seed, f"people.{name}"), sigma, customers)

    def normal(name: str) -> Floats:
        return stream(seed, f"people.{name}").standard_normal(customers)

    persona = choose(np.array([p.share for p in world.personas]), uniform("persona"))
    corridor = choose(np.array([c.usd_millions for c in world.corridors]), uniform("corridor"))
    age_band = choose(np.array([a.share for a in knobs.age_bands]), uniform("age_band"))
    kyc_level = choose(np.array(knobs.kyc_level_shares), uniform("kyc_level"))
    tenure_days = -np.log1p(-uniform("tenure")) * knobs.tenure_days_mean

    def of_persona(values: list[float]) -> Floats:
        return np.array(values)[persona]

    income = knobs.income_usd.median * factor("income", knobs.income_usd.sigma)
    peak = of_persona([p.peak_hour.mean for p in world.personas]) + normal(
        "peak_hour"
    ) * of_persona([p.peak_hour.sigma for p in world.personas])
    extra_recipients = stream(seed, "people.recipients").poisson(
        of_persona([p.recipients_mean - 1 for p in world.personas])
    )
    web = uniform("channel") < of_persona([p.web_share for p in world.personas])
    devices = [
        choose(np.array([d.share for d in channel.devices]), uniform(f"device.{channel.name}"))
        for channel in world.channels
    ]
    age_dwell = np.array([band.dwell for band in knobs.age_bands])[age_band]
    own_dwell = of_persona([p.dwell for p in world.personas]) * factor("dwell", knobs.dwell_sigma)
    own_calls = (
        of_persona([p.calls for p in world.personas])
        * np.array([band.calls for band in knobs.age_bands])[age_band]
        * factor("calls", world.calls.customer_sigma)
    )
    intents = _intents(world, persona, kyc_level, seed, "intents")
    return People(
        persona=persona,
        corridor=corridor,
        second_corridor=_second_corridors(
            world,
            corridor,
            uniform("has_second_corridor") < knobs.second_corridor_share,
            uniform("second_corridor"),
        ),
        age_band=age_band,
        kyc_level=kyc_level,
        recipients=np.minimum(1 + extra_recipients, MOST_RECIPIENTS),
        signed_up_day=(knobs.as_of - EPOCH).days - 1 - tenure_days.astype(np.int64),
        income_usd=income,
        balance_usd=income
        * knobs.balance_of_income.median
        * factor("balance", knobs.balance_of_income.sigma),
        amount_usd=income
        * of_persona([p.amount for p in world.personas])
        * knobs.amount_of_income.median
        * factor("amount", knobs.amount_of_income.sigma),
        sessions_per_day=of_persona([p.sessions_per_week / 7 for p in world.personas])
        * factor("session_rate", knobs.session_rate_sigma),
        weekend=of_persona([p.weekend for p in world.personas]),
        peak_hour=peak % 24,
        channel=web.astype(np.int64),
        devices=np.stack(devices, axis=1),
        dwell=own_dwell**effects.duration_customer * age_dwell**effects.duration_age,
        repeats=factor("repeats", knobs.repeat_sigma) ** effects.duration_customer,
        intents=intents,
        drifts_to=_intents(world, persona, kyc_level, seed, "later_intents") - intents,
        drift_days=_between(world.drift.days, uniform("drift_days")),
        drift_phase=uniform("drift_phase"),
        cycle_days=np.array([item.days for item in world.cycle.lengths])[
            choose(np.array([item.share for item in world.cycle.lengths]), uniform("cycle_days"))
        ],
        cycle_phase=uniform("cycle_phase"),
        spell=choose(np.array([item.share for item in world.cycle.spells]), uniform("spell")),
        pace=factor("pace", world.cycle.pace_sigma),
        fortune_days=_between(world.finance.spell_days, uniform("fortune_days")),
        fortune_phase=uniform("fortune_phase"),
        calls=own_calls**effects.callers,
    )


def _between(days: Between, u: Floats) -> Floats:
    return days.least + (days.most - days.least) * u


def _second_corridors(world: World, corridor: Ints, has_second: Bools, u: Floats) -> Ints:
    """Another corridor from the same send country by weight, or the main one again."""
    second = corridor.copy()
    weights = np.array([c.usd_millions for c in world.corridors])
    sends = np.array([c.send for c in world.corridors])
    for code in range(len(world.corridors)):
        others = np.flatnonzero((sends == sends[code]) & (np.arange(len(sends)) != code))
        rows = np.flatnonzero(has_second & (corridor == code))
        if len(rows) and weights[others].sum() > 0:
            second[rows] = others[choose(weights[others], u[rows])]
    return second


def _intents(world: World, persona: Ints, kyc_level: Ints, seed: int, name: str) -> Floats:
    """Intent probabilities of each customer's own: Dirichlet around the persona's.

    Intents that need open identity checks (`needs_kyc`) fall away once those are complete.
    """
    base = np.array(
        [[p.intents.get(intent.name, 0.0) for intent in world.intents] for p in world.personas]
    )
    base /= base.sum(axis=1, keepdims=True)
    needs_kyc = np.array([intent.needs_kyc for intent in world.intents])
    usable = ~(needs_kyc[None, :] & (kyc_level == 2)[:, None])
    mean = base[persona]
    drawn = stream(seed, f"people.{name}").standard_gamma(world.people.intent_concentration * mean)
    shares = drawn * usable
    # Small concentrations underflow to zero everywhere: such a customer takes the persona's mean.
    empty = shares.sum(axis=1) <= 0
    shares[empty] = (mean * usable)[empty]
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))
