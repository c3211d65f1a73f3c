"""How much of session duration nobody can predict: the error that the planted truth leaves."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from feature_repo.contracts.events import to_epoch_us
from feature_repo.contracts.money import ExchangeRates
from streaming.simulator.dwell import PageDwell, draw_page_dwell, session_factor
from streaming.simulator.enactment import enact
from streaming.simulator.intents import draw_intents
from streaming.simulator.knob_types import WorldError
from streaming.simulator.payments import Tariff, tariff_on
from streaming.simulator.randomness import Floats, Ints, stream
from streaming.simulator.sessions import Sessions, draw_sessions, offsets_hours
from streaming.simulator.simulation import DAY_US, Simulation
from streaming.simulator.traffic import US_PER_S


@dataclass(frozen=True)
class DurationFloor:
    """The least root mean square error of log1p(seconds), on average over so many sessions.

    Attributes:
        at_login: for whoever knows all that is planted, and all that is there at the login:
            customer, corridor, channel, device, instant, balance, chances of every intent.
        intent_known: for whoever knows the session's intent too.
        sessions: customers' own visits that start in the window; frauds and follow-ups not.
    """

    at_login: float
    intent_known: float
    sessions: int


def duration_floor(
    simulation: Simulation, redraws: int = 20, rates: ExchangeRates | None = None
) -> DurationFloor:
    """Draw the window's visits again, `redraws` times, with all that is not known at the login.

    That is the intent (once it is, once it is not), whether it needs a new recipient, what becomes
    of the payment, the session's own noise, its steps and its dwells. What is left of a session's
    log1p(seconds) is its variance over the redraws; the floor is the root of the mean of it.

    Raises:
        WorldError: fewer than two redraws.

    Trap: a model that does not know what is planted cannot reach it, however good.
    """
    if redraws < 2:
        raise WorldError("redraws", redraws, "2 or more", "a variance needs two")
    start_us, end_us = to_epoch_us(simulation.start), to_epoch_us(simulation.end)
    rates = rates or ExchangeRates()
    page_dwell = draw_page_dwell(simulation.world, simulation.seed)
    login, intent = np.zeros(0), np.zeros(0)
    for day in range(start_us // DAY_US, (end_us - 1) // DAY_US + 1):
        visits = draw_sessions(simulation.world, simulation.people, day, simulation.seed)
        visits = visits.at(_took_place(simulation, visits, day))
        tariff = tariff_on(simulation.world, rates, day)
        login, intent = (
            np.append(
                values,
                _variance(
                    simulation, visits, page_dwell, tariff, day=day, redraws=redraws, known=known
                ),
            )
            for values, known in ((login, False), (intent, True))
        )
    return DurationFloor(
        at_login=float(np.sqrt(login.mean())) if len(login) else float("nan"),
        intent_known=float(np.sqrt(intent.mean())) if len(intent) else float("nan"),
        sessions=len(login),
    )


def _took_place(simulation: Simulation, visits: Sessions, day: int) -> Ints:
    """Which of a day's visits are sessions of the window: some come too soon after another."""
    drawn = pl.DataFrame(
        {
            "customer_id": pl.Series(simulation.people.ids()).gather(visits.customer),
            "start_time": day * DAY_US + np.rint(visits.start_s * US_PER_S).astype(np.int64),
        }
    ).with_row_index("row")
    planted = simulation.truth.sessions.select("customer_id", pl.col("start_time").dt.epoch("us"))
    same = drawn.join(planted, on=["customer_id", "start_time"], how="semi")
    return same["row"].sort().cast(pl.Int64).to_numpy()


def _variance(
    simulation: Simulation,
    visits: Sessions,
    page_dwell: PageDwell,
    tariff: Tariff,
    *,
    day: int,
    redraws: int,
    known: bool,
) -> Floats:
    """The variance of each visit's log1p(seconds) over the redraws: shape (n,)."""
    total, squares = np.zeros(len(visits)), np.zeros(len(visits))
    for number in range(redraws):
        group = f".redraw{number}{'.known' if known else ''}"
        again = _redrawn(simulation, visits, day, group, known=known)
        enacted = enact(
            simulation.world,
            simulation.people,
            again,
            page_dwell=page_dwell,
            journeys=simulation.journeys,
            tariff=tariff,
            day=day,
            seed=simulation.seed,
            group=group,
        )
        logs = np.log1p(enacted.duration_s)
        total += logs
        squares += logs**2
    return np.asarray((squares - total**2 / redraws) / (redraws - 1))


def _redrawn(
    simulation: Simulation, visits: Sessions, day: int, group: str, *, known: bool
) -> Sessions:
    """The same visits with another intent (unless it is known), recipient and noise."""
    rng, world = stream(simulation.seed, f"visits{group}", day), simulation.world
    n = len(visits)
    intent = visits.intent
    if not known:
        intent = draw_intents(visits.situation.chances, rng.random(n))
    chance = np.array([item.new_recipient_chance for item in world.intents])
    return replace(
        visits,
        intent=intent,
        new_recipient=rng.random(n) < chance[intent],
        dwell=session_factor(
            world,
            simulation.people,
            day=day,
            customer=visits.customer,
            local_hour=(visits.start_s / 3600 + offsets_hours(world)[visits.corridor]) % 24,
            channel=visits.channel,
            device=visits.device,
            rng=rng,
        ),
    )
