"""The daily batch features: what a back office would know at 00:00 UTC of a day.

Columns are those of `feature_repo/definitions.py`; a test holds both to each other.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.contracts.events import EventType
from streaming.simulator.finances import balances_at_midnight_usd
from streaming.simulator.journeys import Journeys
from streaming.simulator.knobs import World
from streaming.simulator.payments import CENTS
from streaming.simulator.people import EPOCH, People
from streaming.simulator.randomness import Floats, Ints, lognormal, stream

HISTORY_DAYS = 30


def snapshots(
    world: World,
    people: People,
    journeys: Journeys,
    events: pa.Table,
    *,
    day: date,
    first_day: date,
    seed: int,
) -> dict[str, pl.DataFrame]:
    """The rows of the three batch views, as known at 00:00 UTC of `day`.

    Payments of the 30 days before come from `events` from `first_day` on. Before it nothing was
    simulated: those days' payments are drawn from the customers' habits, the same ones each time.
    """
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    number = (day - EPOCH).days
    past = _simulated_past(len(people), events, midnight)
    for back in range(1, HISTORY_DAYS + 1):
        if day - timedelta(days=back) < first_day:
            past += _habitual_past(world, people, journeys, number - back, seed)
    sent_cents, transfers, failed, added = past
    balance_usd = balances_at_midnight_usd(world, people, number, seed)
    known = np.flatnonzero(people.signed_up_day < number)
    send = [corridor.send for corridor in world.corridors]
    corridors = [corridor.name for corridor in world.corridors]
    profile = pl.DataFrame(
        {
            "customer_id": people.ids(),
            "tenure_days": number - people.signed_up_day,
            "age_band": _names([b.name for b in world.people.age_bands], people.age_band),
            "home_country": _names(send, people.corridor),
            "main_corridor": _names(corridors, people.corridor),
            "preferred_channel": _names([c.name for c in world.channels], people.channel),
            "kyc_level": people.kyc_level,
            "recipient_count": people.recipients + added,
        }
    )
    financials = pl.DataFrame(
        {
            "customer_id": people.ids(),
            "balance_ref_minor": _whole(balance_usd * CENTS),
            "monthly_income_ref_minor": _whole(people.income_usd * CENTS),
            "sent_30d_ref_minor": sent_cents,
            "transfers_30d": transfers,
            "failed_30d": failed,
        }
    )
    costs = pl.DataFrame(
        {
            "corridor": corridors,
            "cost_pct_usd200": [c.cost_pct_usd200 for c in world.corridors],
            "cost_pct_usd500": [c.cost_pct_usd500 for c in world.corridors],
            "fx_margin_pct": [c.fx_margin_pct_usd200 for c in world.corridors],
            "providers": [c.providers for c in world.corridors],
        }
    )
    instant = pl.lit(midnight).cast(pl.Datetime("us", "UTC")).alias("event_timestamp")
    return {
        "customer_profile": profile[known].with_columns(instant),
        "customer_financials": financials[known].with_columns(instant),
        "corridor_costs": costs.with_columns(instant),
    }


def _simulated_past(customers: int, events: pa.Table, midnight: datetime) -> Ints:
    """Cents sent, transfers, failures, recipients added: shape (4, customers), from events.

    Payments of the HISTORY_DAYS before midnight, recipients of all the time before it.
    """
    kinds = [EventType.PAYMENT_CONFIRMED, EventType.PAYMENT_FAILED, EventType.ADD_RECIPIENT]
    before = events.filter(
        pc.and_(
            pc.less(events["event_time"], pa.scalar(midnight, events["event_time"].type)),
            pc.is_in(events["event_type"], pa.array([str(kind) for kind in kinds])),
        )
    ).select(["customer_id", "event_type", "event_time", "amount_ref_minor"])
    frame = pl.DataFrame(pl.from_arrow(before)).with_columns(
        number=pl.col("customer_id").str.slice(1).cast(pl.Int64),
        recent=pl.col("event_time") >= midnight - timedelta(days=HISTORY_DAYS),
    )
    confirmed, failed, added = (pl.col("event_type") == str(kind) for kind in kinds)
    sums = frame.group_by("number").agg(
        sent=pl.col("amount_ref_minor").filter(confirmed & pl.col("recent")).sum(),
        transfers=(confirmed & pl.col("recent")).sum().cast(pl.Int64),
        failed=(failed & pl.col("recent")).sum().cast(pl.Int64),
        added=added.sum().cast(pl.Int64),
    )
    past = np.zeros((4, customers), dtype=np.int64)
    for row, name in enumerate(("sent", "transfers", "failed", "added")):
        past[row, sums["number"].to_numpy()] = sums[name].to_numpy()
    return past


def _habitual_past(world: World, people: People, journeys: Journeys, day: int, seed: int) -> Ints:
    """The same four numbers for a day that was not simulated: shape (4, customers)."""
    rng = stream(seed, "history", day)
    intents = people.intents + people.drifts_to / 2
    rate = people.sessions_per_day * (intents @ journeys.payment_chance())
    rate = np.where(people.signed_up_day <= day, rate, 0.0)
    knobs = world.payments
    over = people.amount_usd > balances_at_midnight_usd(world, people, day, seed)
    failing = np.minimum(knobs.failure_chance + knobs.failure_chance_over_balance * over, 1.0)
    transfers, failed = rng.poisson(rate * (1 - failing)), rng.poisson(rate * failing)
    spread = lognormal(rng, world.people.amount_sigma, len(people))
    sent_cents = _whole(transfers * people.amount_usd * spread * CENTS)
    return np.stack([sent_cents, transfers, failed, np.zeros_like(failed)])


def _whole(values: Floats) -> Ints:
    return np.rint(values).astype(np.int64)


def _names(names: list[str], codes: Ints) -> pl.Series:
    return pl.Series(names, dtype=pl.String).gather(codes)
