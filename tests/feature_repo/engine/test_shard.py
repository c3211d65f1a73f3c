"""What a shard promises beyond single values: duplicates, late events, retention, questions."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pyarrow as pa

from feature_repo.contracts.events import to_epoch_us
from feature_repo.engine.program import Program
from feature_repo.engine.projection import project
from feature_repo.engine.read import read_states
from feature_repo.engine.shard import Shard
from tests.feature_repo.engine.cases import START, Case, batch_of, record
from tests.feature_repo.engine.checks import check_case, hold
from tests.feature_repo.engine.oracle import features_at, features_of_event
from tests.feature_repo.engine.oracle_aggregates import Record
from tests.feature_repo.engine.small_set import (
    DAY,
    MINUTE,
    SMALL,
    fold,
    payment,
    view,
)


def test_duplicates_change_nothing_in_one_batch_or_in_many(program: Program) -> None:
    events = [view(number, number * MINUTE) for number in range(4)]
    once, again = Shard(program), Shard(program)
    expected = fold(once, *events)
    found = fold(again, *events, events[1], events[3])
    assert (len(found.rows), found.duplicates) == (4, 2)
    assert found.states.equals(expected.states)
    found = fold(again, *events)
    assert (len(found.rows), found.duplicates, len(found.keys)) == (0, 4, 0)
    following = view(4, 4 * MINUTE)
    assert fold(again, following).states.equals(fold(once, following).states)


def test_an_event_id_belongs_to_its_key(program: Program) -> None:
    both = [view(0, MINUTE), view(0, MINUTE, "b")]
    shard = Shard(program)
    assert fold(shard, *both).duplicates == 0
    assert fold(shard, *both).duplicates == 2
    assert shard.keys == 2


def test_duplicates_are_known_for_the_lateness(program: Program) -> None:
    """However many events and keys come in between."""
    shard = Shard(program)
    first = view(0, timedelta(0))
    fold(shard, first)
    for part in range(20):
        fold(
            shard,
            *(view(1 + 500 * part + n, n * timedelta(seconds=7), f"c{n}") for n in range(500)),
        )
    assert fold(shard, first).duplicates == 1
    assert shard.keys == 501


def test_rows_of_new_events_come_first_and_then_those_that_they_changed(program: Program) -> None:
    shard = Shard(program)
    fold(shard, view(0, timedelta(0)), view(1, 10 * MINUTE), view(2, 20 * MINUTE))
    folded = fold(shard, view(3, 5 * MINUTE), view(4, 21 * MINUTE))
    ids = folded.rows.column("event_id").to_pylist()
    assert ids[:2] == ["e3", "e4"]
    assert sorted(ids[2:]) == ["e1", "e2"]
    assert folded.source.tolist() == [0, 1, -1, -1]
    counts = dict(zip(ids, folded.rows.column("event_count_1h").to_pylist(), strict=True))
    assert counts == {"e3": 2, "e1": 3, "e2": 4, "e4": 5}


def test_values_stay_exact_over_months_while_memory_stays_bounded(program: Program) -> None:
    """What no window reaches any more is forgotten, or settled into lifetimes."""
    shard = Shard(program)
    records: list[Record] = []
    sizes = []
    for day in range(90):
        new = [
            payment(10 * day + n, timedelta(days=day, minutes=11 * n), 100 + day * n)
            for n in range(10)
        ]
        records += new
        folded = fold(shard, *new)
        sizes.append(len(folded.states[0].as_py()))
        if day % 13 == 12:
            row = folded.rows.to_pylist()[-1]
            hold(program, row, features_of_event(SMALL.views, records, len(records) - 1), "row")
            for silence in (timedelta(0), timedelta(minutes=31), timedelta(days=2), 90 * DAY):
                at_us = to_epoch_us(records[-1]["event_time"] + silence)
                read = read_states(program, folded.states, np.array([at_us])).to_pylist()[0]
                hold(program, read, features_at(SMALL.views, records, "a", at_us), str(silence))
    assert max(sizes[10:]) <= max(sizes[:10]) + 64
    assert shard.keys == 1


def test_the_session_before_is_remembered_however_long_ago_it_was() -> None:
    old = [view(number, number * MINUTE) for number in range(3)]
    new = [view(3 + number, 400 * DAY + number * MINUTE) for number in range(2)]
    check_case(Case(SMALL, (*old, *new), (3, 4, 5)))


def test_a_late_event_joins_sessions_that_looked_settled() -> None:
    first = [view(number, 5 * number * MINUTE) for number in range(2)]
    later = [view(2, 20 * DAY), view(3, 20 * DAY + 40 * MINUTE), view(4, 20 * DAY + 20 * MINUTE)]
    check_case(Case(SMALL, (*first, *later), (2, 4, 5)))


def test_a_shard_that_was_asked_goes_on_as_one_that_was_not(program: Program) -> None:
    asked, plain = Shard(program), Shard(program)
    records = [view(number, number * MINUTE) for number in range(20)]
    at_us = np.array([to_epoch_us(START + 3 * MINUTE)])
    events = project(program, batch_of(records))
    asked.ask(events, pa.array(["a"]), at_us)
    plain.fold(events)
    late = view(99, timedelta(minutes=15, seconds=30))
    found, expected = fold(asked, late), fold(plain, late)
    assert found.states.equals(expected.states)
    assert found.rows.equals(expected.rows)


def test_a_question_about_nobody_has_an_answer(program: Program) -> None:
    shard = Shard(program)
    nothing = project(program, batch_of([]))
    answer = shard.ask(nothing, pa.array(["nobody"]), np.array([to_epoch_us(START)]))
    assert answer.to_pylist() == [
        {name: 0 if "count" in name or "sum" in name else None for name in answer.schema.names}
    ]
    assert shard.keys == 0


def test_events_that_no_feature_uses_change_nothing(program: Program) -> None:
    """Whole events, as the first entity's stream carries them, or those that are needed."""
    label = record(
        event_id="l", event_time=START, label_arrival_time=START + 6 * MINUTE, customer_id="a",
        event_type="label", label_event_id="e0", label_value=1.0,
    )  # fmt: skip
    call = view(8, 3 * MINUTE) | {"event_type": "support_contact"}
    events = [view(0, timedelta(0)), view(1, 5 * MINUTE), label, call, view(2, 7 * MINUTE)]
    found = Shard(program).fold(batch_of(events))
    expected = fold(Shard(program), *events)
    assert found.rows.equals(expected.rows)
    assert found.source.tolist() == [0, 1, 4]
    assert found.states.equals(expected.states)


def test_a_spread_is_the_same_of_settled_and_of_young_events(program: Program) -> None:
    """Also where floats no longer tell whole numbers apart: 2^53 + 1 counts as 2^53."""
    shard = Shard(program)
    young = fold(shard, payment(0, MINUTE, 2**53 + 1), payment(1, 2 * MINUTE, 2**53))
    settled = fold(shard, *(view(2 + n, 10 * DAY + n * MINUTE) for n in range(40)))
    spreads = [
        folded.rows.column("lifetime_payment_submitted_amount_ref_minor_std")[-1].as_py()
        for folded in (young, settled)
    ]
    assert spreads == [0.0, 0.0]
