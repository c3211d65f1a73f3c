"""The planted truth: what the simulator knows and no model may see. It goes to its own folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from feature_repo.contracts.events import EVENT_TYPE_CODE, EventType
from streaming.simulator.dwell import PageDwell
from streaming.simulator.event_rows import Numbering, id_words, numbers
from streaming.simulator.knobs import World
from streaming.simulator.people import People
from streaming.simulator.randomness import Ints, hex_ids
from streaming.simulator.sessions import Origin, Scenario
from streaming.simulator.traffic import Traffic

AWAY = "away"


@dataclass(frozen=True)
class Truth:
    """The planted truth of a window; docs/simulator.md lists all columns.

    Attributes:
        sessions: one row a session that starts in the window, by start: what it was for, how it
            came about, how long it really lasted, where the customer stood, what it led to.
        payments: one row a payment submitted in the window, by time, with the fraud it is.
        pages: one row a page and corridor: the Weibull `k` and `lambda_s` of its dwell time.
        customers: one row a customer: habits, both mixes of intents, cycle, drift.
    """

    sessions: pl.DataFrame
    payments: pl.DataFrame
    pages: pl.DataFrame
    customers: pl.DataFrame


def planted_truth(
    world: World,
    people: People,
    page_dwell: PageDwell,
    days: Sequence[Traffic],
    *,
    start_us: int,
    end_us: int,
    seed: int,
) -> Truth:
    """Collect the truth of a window (µs since 1970)."""
    ids = pl.Series(people.ids(), dtype=pl.String)
    sessions, payments = (
        pl.concat(
            [
                rows(world, people, ids, day, start_us=start_us, end_us=end_us, seed=seed)
                for day in days
            ]
        )
        for rows in (_sessions, _payments)
    )
    return Truth(
        sessions=sessions.sort("start_time", maintain_order=True),
        payments=payments.sort("event_time", maintain_order=True),
        pages=page_dwell.as_frame(world),
        customers=_customers(world, people, ids),
    )


def _customers(world: World, people: People, ids: pl.Series) -> pl.DataFrame:
    columns = {
        "customer_id": ids,
        "persona": _names([p.name for p in world.personas], people.persona),
        "dwell_factor": people.dwell,
        "sessions_per_day": people.sessions_per_day,
        "peak_hour": people.peak_hour,
        "amount_usd": people.amount_usd,
        "balance_usd": people.balance_usd,
        "call_factor": people.calls,
        "cycle_days": people.cycle_days,
        "cycle_phase": people.cycle_phase,
        "pace": people.pace,
        "drift_days": people.drift_days,
        "drift_phase": people.drift_phase,
    }
    for code, intent in enumerate(world.intents):
        columns[f"intent_{intent.name}"] = people.intents[:, code]
        columns[f"drifts_to_{intent.name}"] = people.intents[:, code] + people.drifts_to[:, code]
    return pl.DataFrame(columns)


def _sessions(
    world: World,
    people: People,
    ids: pl.Series,
    day: Traffic,
    *,
    start_us: int,
    end_us: int,
    seed: int,
) -> pl.DataFrame:
    rows = np.flatnonzero(day.kept & (day.start_us >= start_us) & (day.start_us < end_us))
    sessions, calls = day.sessions.at(rows), day.calls.at(rows)
    situation = sessions.situation
    devices = [[device.name for device in channel.devices] for channel in world.channels]
    most = max(map(len, devices))
    flat = [name for names in devices for name in names + [""] * (most - len(names))]
    spells = world.cycle.spells
    stages = [name for spell in spells for name in (AWAY, *(s.name for s in spell.stages))]
    stage = situation.need.spell * (len(stages) // len(spells)) + situation.need.stage
    columns = {
        "customer_id": ids.gather(sessions.customer),
        "first_event_id": _ids(day.day, day.first[rows], seed),
        "start_time": _instants(day.start_us[rows]),
        "duration_s": day.duration_s[rows],
        "event_count": np.bincount(day.session, minlength=len(day.sessions))[rows],
        "intent": _names([i.name for i in world.intents], sessions.intent),
        "origin": _names([item.name.lower() for item in Origin], sessions.origin),
        "fraud": _names([item.name.lower() for item in Scenario], sessions.scenario),
        "call": calls.happens,
        "call_chance": calls.chance,
        "persona": _names([p.name for p in world.personas], people.persona[sessions.customer]),
        "corridor": _names([c.name for c in world.corridors], sessions.corridor),
        "channel": _names([c.name for c in world.channels], sessions.channel),
        "device": _names(flat, sessions.channel * most + sessions.device),
        "dwell_factor": sessions.dwell,
        "spell": _names([spell.name for spell in spells], situation.need.spell),
        "stage": _names(stages, stage),
        "cycle_position": situation.need.position,
        "fortune": _names([f.name for f in world.finance.fortunes], situation.fortune),
        "balance_usd": situation.balance_usd,
        "drift": situation.drift,
    }
    for code, intent in enumerate(world.intents):
        columns[f"chance_{intent.name}"] = situation.chances[:, code]
    return pl.DataFrame(columns)


def _payments(
    world: World,
    people: People,
    ids: pl.Series,
    day: Traffic,
    *,
    start_us: int,
    end_us: int,
    seed: int,
) -> pl.DataFrame:
    events = np.flatnonzero(
        (day.event == EVENT_TYPE_CODE[EventType.PAYMENT_SUBMITTED])
        & day.kept[day.session]
        & (day.time_us >= start_us)
        & (day.time_us < end_us)
    )
    session = day.session[events]
    return pl.DataFrame(
        {
            "event_id": _ids(day.day, events, seed),
            "first_event_id": _ids(day.day, day.first[session], seed),
            "customer_id": ids.gather(day.sessions.customer[session]),
            "event_time": _instants(day.time_us[events]),
            "fraud": _names(
                [item.name.lower() for item in Scenario], day.sessions.scenario[session]
            ),
        }
    )


def _ids(day: int, events: Ints, seed: int) -> pl.Series:
    words = id_words(numbers(day, Numbering.EVENT, events), seed)
    return pl.Series(hex_ids(words).to_pylist(), dtype=pl.String)


def _instants(times_us: Ints) -> pl.Series:
    return pl.Series(times_us).cast(pl.Datetime("us", "UTC"))


def _names(names: list[str], codes: Ints) -> pl.Series:
    return pl.Series(names, dtype=pl.String).gather(codes)
