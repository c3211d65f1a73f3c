"""The world's knobs as types: what `world.yaml` may say, with the range of every knob."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from feature_repo.contracts.events import EventType
from streaming.simulator.effect_knobs import (
    CallKnobs,
    CycleKnobs,
    DriftKnobs,
    Effects,
    FinanceKnobs,
    FollowUpKnobs,
    FraudKnobs,
    LabelKnobs,
)
from streaming.simulator.knob_types import (
    Country,
    Knobs,
    LogNormal,
    Name,
    NotNegative,
    Positive,
    Share,
)


class Condition(StrEnum):
    """When a step of a session happens: facts drawn once a session."""

    ALWAYS = "always"
    NEW_RECIPIENT = "new_recipient"
    KYC_INCOMPLETE = "kyc_incomplete"
    PAID = "paid"
    DECLINED = "declined"
    RETRYING = "retrying"
    RETRY_PAID = "retry_paid"
    RETRY_DECLINED = "retry_declined"


class AgeBand(Knobs, frozen=True):
    """Customers of an age: their share, and their dwell and calls against the mean."""

    name: Name
    share: NotNegative
    dwell: Positive
    calls: Positive = 1.0


class People(Knobs, frozen=True):
    """What customers are like; see docs/simulator.md, "Customers"."""

    as_of: date
    tenure_days_mean: Positive
    age_bands: Annotated[tuple[AgeBand, ...], Meta(min_length=1)]
    kyc_level_shares: tuple[NotNegative, NotNegative, NotNegative]
    second_corridor_share: Share
    second_corridor_use: Share
    income_usd: LogNormal
    balance_of_income: LogNormal
    balance_sigma_daily: NotNegative
    amount_of_income: LogNormal
    amount_sigma: NotNegative
    shared_recipient_share: Share
    shared_recipients_per_country: Annotated[int, Meta(gt=0)]
    travel_share: Share
    habit_strength: Share
    habit_sigma_hours: NotNegative
    session_rate_sigma: NotNegative
    intent_concentration: Positive
    dwell_sigma: NotNegative
    repeat_sigma: NotNegative


class Clock(Knobs, frozen=True):
    """When sessions start, in local time; weights need not add up to anything."""

    hour_weights: Annotated[tuple[NotNegative, ...], Meta(min_length=24, max_length=24)]
    weekday_weights: Annotated[tuple[NotNegative, ...], Meta(min_length=7, max_length=7)]
    dwell_swing: Annotated[float, Meta(ge=0, lt=1)]
    slow_hour: Annotated[float, Meta(ge=0, lt=24)]


class SessionKnobs(Knobs, frozen=True):
    """What all sessions share."""

    session_sigma: NotNegative
    tenure_dwell_exponent: float
    # Below the 30-minute session gap, or one page would split the session it belongs to.
    longest_dwell_s: Annotated[float, Meta(gt=0, lt=1800)]
    shortest_silence_s: NotNegative
    preferred_channel_share: Share
    quote_sigma: NotNegative


class PaymentKnobs(Knobs, frozen=True):
    """How payments go."""

    failure_chance: Share
    failure_chance_over_balance: Share
    retry_chance: Share
    round_to_major: Annotated[int, Meta(gt=0)]
    smallest_usd: Positive


class Device(Knobs, frozen=True):
    """A device on a channel: its share there and its dwell against the mean."""

    name: Name
    share: NotNegative
    dwell: Positive


class Channel(Knobs, frozen=True):
    """A channel, its dwell against the mean, and the devices that it is used from."""

    name: Name
    dwell: Positive
    devices: Annotated[tuple[Device, ...], Meta(min_length=1)]


class DwellKnobs(Knobs, frozen=True):
    """How the pages' Weibull parameters differ by corridor."""

    corridor_k_sigma: NotNegative
    corridor_lambda_sigma: NotNegative
    largest_k: Annotated[float, Meta(gt=0, lt=1)]


class Page(Knobs, frozen=True):
    """A page and its Weibull dwell time: shape k < 1, scale in seconds."""

    name: Name
    k: Annotated[float, Meta(gt=0, lt=1)]
    lambda_s: Positive


class Step(Knobs, frozen=True):
    """A step of a session: event, page, chance, mean repeats, condition, chance to leave."""

    event: EventType
    page: str
    chance: Share = 1.0
    repeat: Annotated[float, Meta(ge=0, le=5)] = 0.0
    when: Condition = Condition.ALWAYS
    leave: Share = 0.0


class Intent(Knobs, frozen=True):
    """What a session is for, as the steps that it takes."""

    name: Name
    new_recipient_chance: Share
    steps: Annotated[tuple[Step, ...], Meta(min_length=1)]
    needs_kyc: bool = False


class PeakHour(Knobs, frozen=True):
    """Local hour of day that customers of a persona keep to, normal around a mean."""

    mean: Annotated[float, Meta(ge=0, lt=24)]
    sigma: NotNegative


class Persona(Knobs, frozen=True):
    """A kind of customer: habits and intents."""

    name: Name
    share: NotNegative
    sessions_per_week: NotNegative
    peak_hour: PeakHour
    weekend: NotNegative
    web_share: Share
    recipients_mean: Annotated[float, Meta(ge=1, le=30)]
    amount: Positive
    dwell: Positive
    intents: dict[str, NotNegative]
    calls: Positive = 1.0


class SendCountry(Knobs, frozen=True):
    """A country that money is sent from."""

    code: Country
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$")]
    utc_offset_hours: Annotated[float, Meta(ge=-12, le=14)]


class Corridor(Knobs, frozen=True):
    """A corridor with its weight and its costs in per cent of USD 200 and USD 500.

    The fee is a line through both points, cost less exchange-rate margin, in dollars:
    `fee = fee_fixed_usd + fee_rate * amount`.
    """

    send: Country
    receive: Country
    usd_millions: NotNegative
    cost_pct_usd200: float
    cost_pct_usd500: float
    fx_margin_pct_usd200: float
    fx_margin_pct_usd500: float
    providers: Annotated[int, Meta(gt=0)]

    @property
    def name(self) -> str:
        """`send-receive`."""
        return f"{self.send}-{self.receive}"

    @property
    def _fees_usd(self) -> tuple[float, float]:
        return (
            2 * (self.cost_pct_usd200 - self.fx_margin_pct_usd200),
            5 * (self.cost_pct_usd500 - self.fx_margin_pct_usd500),
        )

    @property
    def fee_rate(self) -> float:
        """Fee in dollars for each further dollar sent."""
        at_200, at_500 = self._fees_usd
        return (at_500 - at_200) / 300

    @property
    def fee_fixed_usd(self) -> float:
        """Fee in dollars before anything is sent."""
        return self._fees_usd[0] - 200 * self.fee_rate


class World(Knobs, frozen=True):
    """All knobs of a world; `world.load_world` reads and checks them."""

    default_customers: Annotated[int, Meta(gt=0)]
    effects: Effects
    people: People
    clock: Clock
    sessions: SessionKnobs
    payments: PaymentKnobs
    channels: Annotated[tuple[Channel, ...], Meta(min_length=2, max_length=2)]
    drift: DriftKnobs
    cycle: CycleKnobs
    finance: FinanceKnobs
    follow_ups: FollowUpKnobs
    calls: CallKnobs
    fraud: FraudKnobs
    labels: LabelKnobs
    dwell: DwellKnobs
    pages: Annotated[tuple[Page, ...], Meta(min_length=1)]
    intents: Annotated[tuple[Intent, ...], Meta(min_length=1)]
    personas: Annotated[tuple[Persona, ...], Meta(min_length=1)]
    countries: Annotated[tuple[SendCountry, ...], Meta(min_length=1)]
    corridors: Annotated[tuple[Corridor, ...], Meta(min_length=1)]
