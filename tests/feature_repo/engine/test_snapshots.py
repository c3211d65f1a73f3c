"""A shard goes on from a snapshot as if nothing had happened; other definitions are refused."""

from __future__ import annotations

import pickle
from datetime import timedelta

import numpy as np
import pytest

from feature_repo.contracts.errors import DefinitionError
from feature_repo.contracts.events import to_epoch_us
from feature_repo.contracts.feature_set import EntityKey, FeatureSet
from feature_repo.contracts.features import FEATURE_SET
from feature_repo.engine.program import Program, compile_program
from feature_repo.engine.projection import project
from feature_repo.engine.read import read_states
from feature_repo.engine.shard import Shard
from tests.feature_repo.engine.cases import START, batch_of
from tests.feature_repo.engine.small_set import (
    CUSTOMER,
    MINUTE,
    SMALL,
    fold,
    payment,
    view,
)


def test_a_batch_without_rows_or_states_ends_in_the_same_state(program: Program) -> None:
    """As a restart folds the events since its checkpoint."""
    quiet, loud = Shard(program), Shard(program)
    for number in range(50):
        events = [view(number, number * 7 * MINUTE), payment(100 + number, number * 7 * MINUTE, 5)]
        folded = quiet.fold(project(program, batch_of(events)), rows=False, states=False)
        assert len(folded.rows) == 0
        assert folded.keys.to_pylist() == ["a"]
        fold(loud, *events)
    last = view(999, timedelta(days=1))
    assert fold(quiet, last).states.equals(fold(loud, last).states)


def test_rows_are_given_again_after_a_quiet_fold(program: Program) -> None:
    """After a restart, late events change rows of events that were folded quietly."""
    shard = Shard(program)
    events = project(program, batch_of([view(number, number * MINUTE) for number in range(3)]))
    shard.fold(events, rows=False, states=False)
    folded = fold(shard, view(9, 90 * timedelta(seconds=1)))
    assert folded.rows.column("event_id").to_pylist() == ["e9", "e2"]


def test_a_restored_shard_goes_on_as_if_nothing_had_happened(program: Program) -> None:
    records = [view(number, 10 * number * MINUTE) for number in range(40)]
    shard = Shard(program)
    fold(shard, *records[:20])
    restored = Shard.restore(program, pickle.loads(pickle.dumps(shard.snapshot())))  # noqa: S301
    again = [records[19], *records[20:], view(99, 385 * MINUTE)]
    expected, found = fold(shard, *again), fold(restored, *again)
    assert found.duplicates == expected.duplicates == 1
    assert found.rows.equals(expected.rows)
    assert found.states.equals(expected.states)


def test_a_snapshot_is_not_changed_by_later_events(program: Program) -> None:
    shard = Shard(program)
    fold(shard, view(0, timedelta(0)))
    snapshot = shard.snapshot()
    before = pickle.dumps(snapshot)
    fold(shard, view(1, MINUTE), view(2, MINUTE, "b"))
    assert pickle.dumps(snapshot) == before


def test_a_snapshot_or_state_of_another_set_is_refused(program: Program) -> None:
    shard = Shard(program)
    folded = fold(shard, view(0, timedelta(0)))
    other = compile_program(FeatureSet("other", SMALL.views, timedelta(hours=2)), CUSTOMER)
    assert other.fingerprint != program.fingerprint
    with pytest.raises(DefinitionError, match="replay the log"):
        Shard.restore(other, shard.snapshot())
    with pytest.raises(DefinitionError, match="replay the log"):
        Shard.restore(program, shard.snapshot() | {"format": 1})
    at_us = np.array([to_epoch_us(START)])
    with pytest.raises(DefinitionError, match="of other definitions"):
        read_states(other, folded.states, at_us)
    state = folded.states[0].as_py()
    for damaged in (state[:-8], state + b"12345678", b"short", state[:13]):
        with pytest.raises(DefinitionError, match="state 1 of customer"):
            read_states(program, [state, damaged], np.array([at_us[0], at_us[0]]))


@pytest.mark.parametrize("entity", FEATURE_SET.entities, ids=lambda entity: entity.name)
def test_equal_definitions_make_equal_programs(entity: EntityKey) -> None:
    one, two = compile_program(FEATURE_SET, entity), compile_program(FEATURE_SET, entity)
    assert one.fingerprint == two.fingerprint
    assert one.feature_schema.names == [o.name for o in FEATURE_SET.outputs_of(entity)]
    assert one.row_schema.names[:3] == ["event_id", entity.join_key, "event_timestamp"]
