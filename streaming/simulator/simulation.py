"""`simulate`: a seeded world's events in a window, with the planted truth beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pyarrow as pa

from feature_repo.contracts.events import EARLIEST_EVENT, LATEST_EVENT, to_epoch_us
from feature_repo.contracts.money import ExchangeRates
from streaming.simulator.dwell import draw_page_dwell
from streaming.simulator.event_rows import EventRows, session_rows
from streaming.simulator.event_table import event_table
from streaming.simulator.journeys import Journeys, compile_journeys
from streaming.simulator.knob_types import WorldError
from streaming.simulator.knobs import World
from streaming.simulator.labels import NEAR_DAYS, call_labels, fraud_labels, look_back_days
from streaming.simulator.payments import tariff_on
from streaming.simulator.people import People, draw_people
from streaming.simulator.records import call_rows, report_rows, snapshot_rows
from streaming.simulator.sessions import DAY_S
from streaming.simulator.snapshots import snapshots
from streaming.simulator.traffic import Traffic, draw_traffic
from streaming.simulator.truth import Truth, planted_truth

DAY_US = DAY_S * 1_000_000
MOST_CUSTOMERS = 1 << 22

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Simulation:
    """A window [start, end) of a world.

    Attributes:
        events: one table of `EVENT_SCHEMA` in the order of the log: by event time, labels by
            their arrival (which, not the event time, lies in the window); with amounts in the
            reference currency.
        truth: what was planted. No training code may read it.
    """

    world: World
    start: datetime
    end: datetime
    seed: int
    events: pa.Table
    truth: Truth
    people: People
    journeys: Journeys

    def batch_features(self, day: date) -> dict[str, pl.DataFrame]:
        """The batch feature views' rows as known at 00:00 UTC of a day, by view name.

        `customer_profile` and `customer_financials` have one row a customer signed up by then,
        `corridor_costs` one a corridor. Events on or after that instant do not show in them.
        """
        return snapshots(
            self.world,
            self.people,
            self.journeys,
            self.events,
            day=day,
            first_day=self.start.astimezone(UTC).date(),
            seed=self.seed,
        )

    def batch_days(self) -> list[date]:
        """The days whose 00:00 UTC the window's events look back to: first day to last."""
        first = to_epoch_us(self.start) // DAY_US
        last = (to_epoch_us(self.end) - 1) // DAY_US
        return [np.datetime64(day, "D").item() for day in range(first, last + 1)]


def simulate(
    world: World,
    *,
    customers: int,
    start: datetime,
    end: datetime,
    seed: int,
    rates: ExchangeRates | None = None,
    progress: Progress | None = None,
) -> Simulation:
    """Simulate the events of `customers` customers in [start, end).

    The same arguments give the same table. The same seed gives the same people in every window,
    and windows that touch fit together: their events are those of the joint window, each once.

    Args:
        start, end: aware datetimes; traffic is drawn by UTC day and then cut, so a short window
            costs as much as the days that it touches and the one before.
        rates: for amounts in the reference currency; None reads the project's own file.
        progress: called with (days done, days in all).

    Raises:
        WorldError: an argument is out of range, or a currency has no rate on a day.

    Trap: another number of customers is another crowd: the first customers have the same
    attributes, but not the same sessions.
    """
    start_us, end_us = _checked_window(start, end)
    if not 0 < customers <= MOST_CUSTOMERS:
        raise WorldError("customers", customers, f"1..{MOST_CUSTOMERS}", "pass another number")
    if seed < 0:
        raise WorldError("seed", seed, "a whole number >= 0", "pass another seed")
    rates = rates or ExchangeRates()
    people = draw_people(world, customers, seed)
    page_dwell = draw_page_dwell(world, seed)
    journeys = compile_journeys(world)
    # Days before belong to the window too: late sessions run into it, labels arrive in it.
    first = start_us // DAY_US - look_back_days(world)
    days = range(first, (end_us - 1) // DAY_US + 1)
    traffic = []
    for done, day in enumerate(days, start=1):
        traffic.append(draw_traffic(world, people, page_dwell, journeys, rates, day=day, seed=seed))
        if progress:
            progress(done, len(days))
    near = start_us // DAY_US - first - NEAR_DAYS
    rows = _rows(world, rates, traffic, near, start_us=start_us, end_us=end_us, seed=seed)
    return Simulation(
        world=world,
        start=start,
        end=end,
        seed=seed,
        events=event_table(world, people, traffic, rows, rates, seed=seed),
        truth=planted_truth(
            world, people, page_dwell, traffic[near:], start_us=start_us, end_us=end_us, seed=seed
        ),
        people=people,
        journeys=journeys,
    )


def _rows(
    world: World,
    rates: ExchangeRates,
    days: Sequence[Traffic],
    near: int,
    *,
    start_us: int,
    end_us: int,
    seed: int,
) -> EventRows:
    """The rows that the log knows of in the window; labels behind everything else.

    Of days before `near` only labels of payments, and reports, reach the window.
    """
    firsts = np.cumsum([0, *(len(day.sessions) for day in days[:-1])]).tolist()

    def cut(rows: EventRows, first: int) -> EventRows:
        inside = (rows.known_us >= start_us) & (rows.known_us < end_us)
        return rows.at(np.flatnonzero(inside)).of_session(first)

    happened: list[EventRows] = []
    known: list[EventRows] = []
    for at, (day, first) in enumerate(zip(days, firsts, strict=True)):
        if at >= near:
            happened.append(session_rows(day, start_us, end_us).of_session(first))
            tariff = tariff_on(world, rates, day.day)
            happened += [cut(snapshot_rows(tariff, day), first), cut(call_rows(day), first)]
            known.append(cut(call_labels(days, at), first))
        happened.append(cut(report_rows(world, day, seed), first))
        known.append(cut(fraud_labels(world, day, seed), first))
    return EventRows.joined([*happened, *known])


def _checked_window(start: datetime, end: datetime) -> tuple[int, int]:
    for name, instant in (("start", start), ("end", end)):
        if instant.tzinfo is None:
            raise WorldError(name, str(instant), "an instant with time zone", "append +00:00")
        if not EARLIEST_EVENT <= instant <= LATEST_EVENT:
            raise WorldError(name, str(instant), "an instant in 2000..2099", "pass another one")
    if start >= end:
        raise WorldError("end", str(end), f"an instant after the start, {start}", "swap them")
    return to_epoch_us(start), to_epoch_us(end)
