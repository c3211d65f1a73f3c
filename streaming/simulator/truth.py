"""The planted truth: what the simulator knows and no model may see. It goes to its own folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from streaming.simulator.dwell import PageDwell
from streaming.simulator.knobs import World
from streaming.simulator.people import People
from streaming.simulator.randomness import Ints, hex_ids
from streaming.simulator.traffic import Traffic


@dataclass(frozen=True)
class Truth:
    """The planted truth of a window.

    Attributes:
        sessions: one row a session that starts in the window, by start: customer_id,
            first_event_id, start_time, duration_s (first to last event, also where the window
            cuts the session off), event_count, intent, persona, corridor, channel, device,
            dwell_factor (scales lambda of every page in the session).
        pages: one row a page and corridor: the Weibull `k` and `lambda_s` of its dwell time.
        customers: one row a customer: persona, dwell factor, sessions a day, peak hour, usual
            payment, and the probability of each intent (`intent_<name>`).
    """

    sessions: pl.DataFrame
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
) -> Truth:
    """Collect the truth of a window (µs since 1970)."""
    sessions = pl.concat([_sessions(world, people, day, start_us, end_us) for day in days])
    customers = {
        "customer_id": pl.Series(people.ids()),
        "persona": _names([p.name for p in world.personas], people.persona),
        "dwell_factor": people.dwell,
        "sessions_per_day": people.sessions_per_day,
        "peak_hour": people.peak_hour,
        "amount_usd": people.amount_usd,
    }
    for code, intent in enumerate(world.intents):
        customers[f"intent_{intent.name}"] = people.intents[:, code]
    return Truth(
        sessions=sessions.sort("start_time", maintain_order=True),
        pages=page_dwell.as_frame(world),
        customers=pl.DataFrame(customers),
    )


def _sessions(
    world: World, people: People, day: Traffic, start_us: int, end_us: int
) -> pl.DataFrame:
    start = day.time_us[day.first]
    rows = np.flatnonzero(day.kept & (start >= start_us) & (start < end_us))
    customer, channel = day.sessions.customer[rows], day.sessions.channel[rows]
    devices = [[device.name for device in channel.devices] for channel in world.channels]
    most = max(map(len, devices))
    flat = [name for names in devices for name in names + [""] * (most - len(names))]
    return pl.DataFrame(
        {
            "customer_id": _names(people.ids(), customer),
            "first_event_id": pl.Series(
                hex_ids(day.event_id[day.first[rows]]).to_pylist(), dtype=pl.String
            ),
            "start_time": pl.Series(start[rows]).cast(pl.Datetime("us", "UTC")),
            "duration_s": day.duration_s[rows],
            "event_count": np.bincount(day.session, minlength=len(day.sessions))[rows],
            "intent": _names([i.name for i in world.intents], day.sessions.intent[rows]),
            "persona": _names([p.name for p in world.personas], people.persona[customer]),
            "corridor": _names([c.name for c in world.corridors], day.sessions.corridor[rows]),
            "channel": _names([c.name for c in world.channels], channel),
            "device": _names(flat, channel * most + day.sessions.device[rows]),
            "dwell_factor": day.sessions.dwell[rows],
        }
    )


def _names(names: list[str], codes: Ints) -> pl.Series:
    return pl.Series(names, dtype=pl.String).gather(codes)
