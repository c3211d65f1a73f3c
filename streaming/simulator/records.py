"""What is recorded beside what customers do: balances at logins, calls, reports of fraud."""

from __future__ import annotations

import numpy as np

from feature_repo.contracts.events import EVENT_TYPE_CODE, EventType
from streaming.simulator.event_rows import EventRows, Numbering, made_rows
from streaming.simulator.knobs import World
from streaming.simulator.payments import CENTS, Tariff
from streaming.simulator.randomness import Ints, stream
from streaming.simulator.sessions import DAY_S, Scenario
from streaming.simulator.traffic import US_PER_S, Traffic

US_PER_DAY = DAY_S * US_PER_S


def balances_minor(tariff: Tariff, day: Traffic) -> Ints:
    """The balance at each session's start, in minor units of the send country: shape (n,)."""
    cents = day.sessions.situation.balance_usd * CENTS
    return np.rint(cents / tariff.cents[day.sessions.corridor]).astype(np.int64)


def snapshot_rows(tariff: Tariff, day: Traffic) -> EventRows:
    """The balance at the login of each kept session, at the same instant."""
    session = np.flatnonzero(day.kept)
    return made_rows(
        EventType.FINANCIAL_SNAPSHOT,
        day.day,
        Numbering.SNAPSHOT,
        session,
        session=session,
        time_us=day.start_us[session],
        page=day.page[day.first[session]],
        amount_minor=balances_minor(tariff, day)[session],
    )


def call_times_us(day: Traffic) -> tuple[Ints, Ints]:
    """The sessions that lead to calls, and the instants of the calls (µs since 1970)."""
    session = np.flatnonzero(day.calls.happens & day.kept)
    after_us = np.rint(day.calls.after_s[session] * US_PER_S).astype(np.int64)
    return session, day.start_us[session] + after_us


def call_rows(day: Traffic) -> EventRows:
    """The calls that a day's sessions lead to."""
    session, time_us = call_times_us(day)
    return made_rows(
        EventType.SUPPORT_CONTACT,
        day.day,
        Numbering.CALL,
        session,
        session=session,
        time_us=time_us,
    )


def report_rows(world: World, day: Traffic, seed: int) -> EventRows:
    """Victims' reports: of a session with fraud that went through, about its first payment."""
    rng, knobs = stream(seed, "reports", day.day), world.fraud
    n = len(day.sessions)
    reported = rng.random(n) < knobs.report_chance
    days = knobs.report_days.least + rng.random(n) * (
        knobs.report_days.most - knobs.report_days.least
    )
    paid = np.flatnonzero(day.event == EVENT_TYPE_CODE[EventType.PAYMENT_CONFIRMED])
    session, first = np.unique(day.session[paid], return_index=True)
    fraud = (day.sessions.scenario[session] != Scenario.NONE) & day.kept[session]
    chosen = np.flatnonzero(fraud & reported[session])
    session, event = session[chosen], paid[first[chosen]]
    after_us = np.rint(days[session] * US_PER_DAY).astype(np.int64)
    return made_rows(
        EventType.FRAUD_REPORTED,
        day.day,
        Numbering.REPORT,
        session,
        session=session,
        time_us=day.time_us[event] + after_us,
        about=np.full(len(session), EVENT_TYPE_CODE[EventType.PAYMENT_SUBMITTED]),
        amount_minor=day.amount_minor[event],
    )
