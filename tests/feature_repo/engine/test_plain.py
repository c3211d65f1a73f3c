"""Features as plain numbers equal those as Arrow columns, of any state and instant."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from feature_repo.contracts.definition import (
    AS_OF,
    Aggregate,
    Derived,
    Feature,
    Function,
    Session,
    Sliding,
)
from feature_repo.contracts.events import Event, EventType, to_epoch_us
from feature_repo.contracts.feature_set import FeatureSet, View
from feature_repo.contracts.features import CUSTOMER, FEATURE_SET
from feature_repo.engine.plain import PlainReader, readable
from feature_repo.engine.program import compile_program
from feature_repo.engine.read import StateReader, words_of
from tests.online_states import states_of

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
_DAY = timedelta(days=1)

# Defaults, and derived features of every kind, one of them of the instant itself.
OTHER_SET = FeatureSet(
    "other",
    (
        View(
            "things",
            CUSTOMER,
            (
                Feature(Aggregate.START, Session(timedelta(minutes=30))),
                Feature(Aggregate.DURATION, Session(timedelta(minutes=30))),
                Feature(Aggregate.MEAN, Sliding(_DAY), "amount_ref_minor", default=-1.0),
                Feature(Aggregate.MAX, Sliding(_DAY), "amount_ref_minor", default=7),
                Feature(Aggregate.LAST, Sliding(_DAY), "device"),
                Feature(Aggregate.LAST_N, Sliding(_DAY), "page", n=3),
                Derived("hour_now", Function.HOUR, (AS_OF,), "hour of reading"),
                Derived("weekend", Function.IS_WEEKEND, ("session_start_us",), "it began then"),
                Derived("night", Function.IS_NIGHT, ("session_start_us",), "it began then"),
                Derived(
                    "pace",
                    Function.RATIO,
                    ("session_duration_s", "amount_ref_minor_max_24h"),
                    "something over something",
                ),
            ),
        ),
    ),
)


def _events(rng: random.Random) -> list[Event]:
    kinds = [EventType.LOGIN, EventType.PAGE_VIEW, EventType.PAYMENT_SUBMITTED]
    events = []
    for customer in range(30):
        for number in range(rng.randint(1, 40)):
            kind = rng.choice(kinds)
            fields: dict[str, Any] = {}
            if kind is EventType.PAYMENT_SUBMITTED:
                fields = {
                    "amount_minor": rng.randint(1, 10**6),
                    "fee_minor": 5,
                    "currency": "USD",
                    "counterparty_id": f"p{rng.randint(0, 5)}",
                }
            if rng.random() < 0.7:
                fields |= {"send_country": "GB", "receive_country": rng.choice(["NG", "IN"])}
            if rng.random() < 0.5:
                fields |= {"device": rng.choice(["ios", "ä very long näme" * 10]), "page": "p/1"}
            ago = timedelta(microseconds=rng.randint(0, 3 * 86_400_000_000))
            events.append(
                Event(
                    event_id=f"{customer}-{number}",
                    event_time=NOW - ago,
                    customer_id=f"c{customer}",
                    event_type=kind,
                    **fields,
                )
            )
    return sorted(events, key=lambda event: event.event_time)


@pytest.mark.parametrize("feature_set", [FEATURE_SET, OTHER_SET], ids=lambda each: each.name)
def test_plain_values_equal_the_columns(feature_set: FeatureSet) -> None:
    rng = random.Random(1)
    stored: dict[str, list[bytes | None]] = {}
    for entity, _, state, _ in states_of(_events(rng), feature_set):
        stored.setdefault(entity.name, []).append(state)
    for entity in feature_set.entities:
        program = compile_program(feature_set, entity)
        states = [*stored[entity.name], None, b"of other definitions...."]
        instants = np.array(
            [to_epoch_us(NOW) + rng.randint(0, 7_200_000_000) for _ in states], np.int64
        )
        batch, good = StateReader(program).read_leniently(states, instants)
        reader = PlainReader(program)
        words, begins, ends = words_of(states)
        for _ in range(2):  # what it keeps from call to call does no harm
            reader.evaluate(words, begins, ends, instants, len(states))
        raw = words.view(np.uint8)
        assert [readable(outcome) for outcome in reader.outcome[: len(states)]] == good.tolist()
        compared = 0
        for output in program.outputs:
            place = reader.places.get(output.name)
            if place is None:
                continue  # a sequence
            wanted = batch.column(output.name).to_pylist()
            assert [reader.value(place, row, raw) for row in range(len(states))] == wanted
            compared += 1
        assert compared >= min(len(program.outputs) - 1, 6)


def test_long_histories_fit() -> None:
    program = compile_program(FEATURE_SET, CUSTOMER)
    events = [
        Event(
            event_id=str(number),
            event_time=NOW - timedelta(seconds=number),
            customer_id="c",
            event_type=EventType.PAGE_VIEW,
        )
        for number in reversed(range(1_000))
    ]
    state = next(state for entity, _, state, _ in states_of(events) if entity is CUSTOMER)
    reader = PlainReader(program)
    words, begins, ends = words_of([state])
    reader.evaluate(words, begins, ends, np.array([to_epoch_us(NOW)]), 1)
    place = reader.places["event_count_1h"]
    assert reader.value(place, 0, words.view(np.uint8)) == 1_000
