"""When states are copied, and that a copy made between batches is as of when it began."""

from __future__ import annotations

from datetime import timedelta

import pytest

from feature_repo.contracts.features import CUSTOMER, FEATURE_SET
from feature_repo.engine.program import compile_program
from feature_repo.engine.shard import Shard
from streaming.rebase import REBASE_EPOCHS, REBASE_EVENTS, Rebase
from streaming.updates import Snapshot
from tests.streaming.made_events import batch_of, page_view

A, B = ("customer", 0), ("customer", 1)
EPOCH = timedelta(seconds=10)


def test_the_partition_with_most_events_is_copied_first_and_copies_are_apart() -> None:
    rebase = Rebase(EPOCH, {A: REBASE_EVENTS, B: 0})
    rebase.folded(B, REBASE_EVENTS + 1)
    assert rebase.due(100.0) == B
    assert rebase.due(100.5) is None
    assert rebase.due(101.0) == A
    assert rebase.due(102.0) is None


def test_a_quiet_partition_is_copied_now_and_then_and_a_silent_one_never() -> None:
    rebase = Rebase(EPOCH, {A: 0, B: 0})
    rebase.folded(A, 1)
    for epoch in range(REBASE_EPOCHS):
        assert rebase.due(epoch * 10.0) is None
        rebase.epoch_ended([A, B])
    assert rebase.due(1_000.0) == A
    assert rebase.due(2_000.0) is None


@pytest.fixture
def shards() -> dict[tuple[str, int], Shard]:
    program = compile_program(FEATURE_SET, CUSTOMER)
    return {A: Shard(program), B: Shard(program)}


def until_copied(rebase: Rebase, shards: dict[tuple[str, int], Shard]) -> Snapshot:
    while not (found := rebase.step(shards)):
        pass
    return found[0]


def test_one_copy_at_a_time_is_in_memory(shards: dict[tuple[str, int], Shard]) -> None:
    rebase = Rebase(timedelta(0), {A: REBASE_EVENTS, B: REBASE_EVENTS})
    assert rebase.step(shards) == [Snapshot(B)]
    whole = until_copied(rebase, shards)
    assert whole.owned == B
    assert whole.state is not None
    assert rebase.step(shards) == []  # it is not written yet
    whole.written.set()
    assert rebase.step(shards) == [Snapshot(A)]


def test_a_copy_given_up_is_begun_again(shards: dict[tuple[str, int], Shard]) -> None:
    rebase = Rebase(timedelta(0), {A: REBASE_EVENTS})
    assert rebase.step(shards) == [Snapshot(A)]
    shards[A].snapshot()  # the end of a log, say
    assert rebase.step(shards) == []
    assert rebase.step(shards) == [Snapshot(A)]
    assert until_copied(rebase, shards).state is not None


def test_a_copy_is_as_of_when_it_began(shards: dict[tuple[str, int], Shard]) -> None:
    shard, other = shards[A], shards[B]
    first = batch_of([page_view(n, f"c{n % 500}") for n in range(1000)])
    later = batch_of([page_view(n, f"c{n % 500}") for n in range(980, 1700)])
    shard.fold(first)
    other.fold(first)
    rebase = Rebase(EPOCH, {A: REBASE_EVENTS})
    rebase.step(shards)
    shard.fold(later)
    state = until_copied(rebase, shards).state
    assert state is not None
    restored = Shard.restore(shard.program, state)
    assert restored.keys == other.keys == 500
    expected, found = other.fold(later), restored.fold(later)
    assert found.duplicates == expected.duplicates == 20
    assert found.rows.equals(expected.rows)
    assert found.states.equals(expected.states)
