"""What happens in a session: its intent's steps, some left out, some repeated, some abandoned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feature_repo.contracts.events import EVENT_TYPE_CODE, EventType
from streaming.simulator.knobs import Condition, World
from streaming.simulator.payments import Payments
from streaming.simulator.people import People
from streaming.simulator.randomness import Bools, Floats, Ints
from streaming.simulator.sessions import Sessions

MOST_REPEATS = 12
_CONDITIONS = list(Condition)


@dataclass(frozen=True)
class Journeys:
    """The intents' steps as arrays of shape (intents, steps), padded with steps of chance 0."""

    event: Ints
    page: Ints
    chance: Floats
    repeat: Floats
    condition: Ints
    leave: Floats

    def payment_chance(self) -> Floats:
        """How likely a session reaches its first payment, by intent: shape (intents,)."""
        submitted = self.event == EVENT_TYPE_CODE[EventType.PAYMENT_SUBMITTED]
        at = submitted.argmax(axis=1)
        stays = np.cumprod(1 - self.leave, axis=1)
        rows = np.arange(len(at))
        return np.where(submitted.any(axis=1), stays[rows, at] * self.chance[rows, at], 0.0)


def compile_journeys(world: World) -> Journeys:
    """Turn the intents' steps into arrays."""
    shape = (len(world.intents), max(len(intent.steps) for intent in world.intents))
    pages = {page.name: code for code, page in enumerate(world.pages)}
    event, page, condition = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    chance, repeat, leave = (np.zeros(shape) for _ in range(3))
    for row, intent in enumerate(world.intents):
        for column, step in enumerate(intent.steps):
            at = row, column
            event[at], page[at] = EVENT_TYPE_CODE[step.event], pages[step.page]
            condition[at] = _CONDITIONS.index(step.when)
            chance[at], repeat[at], leave[at] = step.chance, step.repeat, step.leave
    return Journeys(event, page, chance, repeat, condition, leave)


@dataclass(frozen=True)
class Steps:
    """m events in order, by session: arrays of shape (m,).

    `session` indexes the sessions; `last` marks the last repeat of a step.
    """

    session: Ints
    event: Ints
    page: Ints
    last: Bools


def draw_steps(
    journeys: Journeys,
    people: People,
    sessions: Sessions,
    payments: Payments,
    rng: np.random.Generator,
) -> Steps:
    """Draw the events of all sessions at once; each session has at least one."""
    intent, n = sessions.intent, len(sessions)
    width = journeys.chance.shape[1]
    happens = rng.random((n, width)) < journeys.chance[intent]
    stays = rng.random((n, width)) >= journeys.leave[intent]
    happens &= np.logical_and.accumulate(stays, axis=1)
    facts = _facts(people, sessions, payments)
    happens &= np.take_along_axis(facts, journeys.condition[intent], axis=1)

    cell = np.flatnonzero(happens)
    session, column = np.divmod(cell, width)
    step = intent[session] * width + column
    repeats = _repeats(
        journeys.repeat.ravel()[step] * people.repeats[sessions.customer[session]], rng
    )
    step = np.repeat(step, 1 + repeats)
    last = np.zeros(len(step), dtype=np.bool_)
    last[np.cumsum(1 + repeats) - 1] = True
    return Steps(
        session=np.repeat(session, 1 + repeats),
        event=journeys.event.ravel()[step],
        page=journeys.page.ravel()[step],
        last=last,
    )


def _repeats(mean: Floats, rng: np.random.Generator) -> Ints:
    """Geometric counts from 0 with the given means, at most MOST_REPEATS."""
    counts = np.zeros(len(mean), dtype=np.int64)
    rows = np.flatnonzero(mean)
    again = mean[rows] / (1 + mean[rows])
    drawn = np.log1p(-rng.random(len(rows))) / np.log(again)
    counts[rows] = np.minimum(drawn, MOST_REPEATS).astype(np.int64)
    return counts


def _facts(people: People, sessions: Sessions, payments: Payments) -> Bools:
    """Whether each condition holds in each session: shape (sessions, conditions)."""
    facts = {
        Condition.ALWAYS: np.ones(len(sessions), dtype=np.bool_),
        Condition.NEW_RECIPIENT: sessions.new_recipient,
        Condition.KYC_INCOMPLETE: people.kyc_level[sessions.customer] < 2,
        Condition.PAID: ~payments.declined,
        Condition.DECLINED: payments.declined,
        Condition.RETRYING: payments.retrying,
        Condition.RETRY_PAID: payments.retrying & ~payments.retry_declined,
        Condition.RETRY_DECLINED: payments.retry_declined,
    }
    return np.stack([facts[condition] for condition in _CONDITIONS], axis=1)
