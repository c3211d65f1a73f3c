"""The knobs of what is planted beyond habits: how strong it is, and what it looks like."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from streaming.simulator.knob_types import (
    Between,
    Knobs,
    LogNormal,
    Name,
    NotNegative,
    Positive,
    Share,
)

# What an intent's weight is multiplied by: e to this power, at strength 1.
Tilts = dict[str, Annotated[float, Meta(ge=-6, le=6)]]


class Effects(Knobs, frozen=True):
    """How strong each planted effect is: 1 as described, 0 not there at all."""

    drift: Share
    cycle: NotNegative
    finance: NotNegative
    failure_tracking: NotNegative
    failure_calls: NotNegative
    callers: NotNegative
    account_takeover: NotNegative
    mules: NotNegative
    card_testing: NotNegative
    duration_customer: NotNegative
    duration_age: NotNegative
    duration_device: NotNegative
    duration_tenure: NotNegative
    duration_hour: Share
    duration_corridor: NotNegative


class DriftKnobs(Knobs, frozen=True):
    """How long a customer takes from one mix of intents to the other and back."""

    days: Between


class CycleLength(Knobs, frozen=True):
    """A length of cycles and the share of customers who have it."""

    days: Annotated[float, Meta(ge=3, le=400)]
    share: NotNegative


class Stage(Knobs, frozen=True):
    """A part of a spell: its days, how often people come then, and the tilts of their intents."""

    name: Name
    days: Positive
    rate: Positive
    intents: Tilts


class Spell(Knobs, frozen=True):
    """A kind of need, as three stages one after the other."""

    name: Name
    share: NotNegative
    stages: tuple[Stage, Stage, Stage]


class CycleKnobs(Knobs, frozen=True):
    """When the need to send money comes back, and what it looks like."""

    lengths: Annotated[tuple[CycleLength, ...], Meta(min_length=1)]
    jitter: Annotated[float, Meta(ge=0, le=0.2)]
    pace_sigma: NotNegative
    loyalty: Share
    away_rate: Positive
    spells: Annotated[tuple[Spell, ...], Meta(min_length=1)]


class Fortune(Knobs, frozen=True):
    """How a customer stands for some days: balance against the usual one, and tilts of intents."""

    name: Name
    share: NotNegative
    balance: Positive
    intents: Tilts


class FinanceKnobs(Knobs, frozen=True):
    """How balances go up and down, and how soon people act on it."""

    spell_days: Between
    delay_days: NotNegative
    fortunes: Annotated[tuple[Fortune, ...], Meta(min_length=1)]


# Beyond this a follow-up would run into the second day after the one it belongs to.
MOST_DELAY_HOURS = 20
Hours = Annotated[float, Meta(gt=0, le=MOST_DELAY_HOURS)]


class FollowUpKnobs(Knobs, frozen=True):
    """Sessions that look where the money is, after a payment that failed for good."""

    intent: str
    chance: Share
    delay_hours_mean: Positive
    longest_delay_hours: Hours


class CallKnobs(Knobs, frozen=True):
    """Who calls after a session, and how soon."""

    chance: Share
    customer_sigma: NotNegative
    intents: dict[str, NotNegative]
    failed_chance: Share
    delay_hours_mean: Positive
    longest_delay_hours: Hours


class TakeoverKnobs(Knobs, frozen=True):
    """Strangers in customers' accounts."""

    per_1000_customer_days: NotNegative
    other_device: Share
    abroad: Share
    new_recipient: Share
    amount: LogNormal
    dwell: Positive


class MuleKnobs(Knobs, frozen=True):
    """Recipients whom many customers are talked into paying within days."""

    per_1000_customer_days: NotNegative
    customers_per_mule: Positive
    days: Annotated[int, Meta(ge=1)]
    amount: LogNormal


class CardTestKnobs(Knobs, frozen=True):
    """Bursts of small payments, with which stolen cards are tried."""

    per_1000_customer_days: NotNegative
    fewest_payments: Annotated[int, Meta(ge=1)]
    further_payments_mean: NotNegative
    failure_chance: Share
    amount_usd: LogNormal
    seconds_between: Positive


class FraudKnobs(Knobs, frozen=True):
    """Fraud of three kinds, and when victims report it."""

    intent: str
    takeovers: TakeoverKnobs
    mules: MuleKnobs
    card_tests: CardTestKnobs
    report_chance: Share
    report_days: Between


class LabelKnobs(Knobs, frozen=True):
    """When it is known of a payment whether it was fraud: a triangle of days after it."""

    fraud_days: Between
    fraud_days_mode: Positive
