"""What the flow hands to whom."""

from __future__ import annotations

from datetime import timedelta
from typing import cast

import pytest

from feature_repo.contracts.features import CUSTOMER, FEATURE_SET
from feature_repo.engine.program import compile_program
from feature_repo.engine.shard import Shard
from streaming.checkpoints import PartitionCheckpoint
from streaming.dataflow import Features, Stores
from streaming.epochs import Epochs
from streaming.failure import Failure
from streaming.lineage import LogRun
from streaming.rebase import Rebase
from streaming.updates import Admitted, Barrier, Position, Snapshot, Update
from tests.streaming.made_events import batch_of, page_view
from tests.streaming.stubs import Checkpoint, Journal, Rows, States

A, B = ("customer", 0), ("customer", 1)
EPOCH = timedelta(seconds=10)
BARRIER = Barrier({A: Position(1, 1)})


@pytest.fixture
def shards() -> dict[tuple[str, int], Shard]:
    program = compile_program(FEATURE_SET, CUSTOMER)
    return {A: Shard(program), B: Shard(program)}


def test_events_become_updates_in_their_order(shards: dict[tuple[str, int], Shard]) -> None:
    features = Features(shards, Rebase(EPOCH, {}), Failure())
    events = batch_of([page_view(0, "c1"), page_view(1, "c2"), page_view(1, "c2")])
    update, mark = features([Admitted(*A, 4, 5, events), BARRIER])
    assert isinstance(update, Update)
    assert (len(update.rows), update.duplicates) == (2, 1)
    assert sorted(update.keys.to_pylist()) == ["c1", "c2"]
    assert mark is BARRIER


def test_all_states_are_copied_at_the_end_of_a_file(
    shards: dict[tuple[str, int], Shard],
) -> None:
    last = Barrier({}, last=True)
    found = list(Features(shards, None, Failure(), copy_at_end=True)([BARRIER, last]))
    assert found[0] is BARRIER
    assert [item.owned for item in found[1:3] if isinstance(item, Snapshot)] == [A, B]
    assert found[3] is last
    assert list(Features(shards, None, Failure())([last])) == [last]


def test_states_carry_the_last_offset_and_a_slow_commit_is_not_doubled() -> None:
    journal = Journal()
    run = LogRun("valkey", "", 3, complete=True)
    checkpoints = {A: cast(PartitionCheckpoint, Checkpoint(journal))}
    rows = Rows(journal, "rows")
    epochs = Epochs({"customer": rows}, ("customer", rows), checkpoints, run)
    stores = Stores({"customer": CUSTOMER}, 3, States(journal), epochs, Failure())
    shard = Shard(compile_program(FEATURE_SET, CUSTOMER))
    admitted = Admitted(*A, 4, 5, batch_of([page_view(0)]))
    for item in Features({A: shard}, None, Failure())([admitted]):
        stores.take(item)
    stores.take(Barrier({A: Position(5, 1)}))
    stores.take(Barrier({A: Position(6, 1)}, last=True))
    stores.close()
    assert journal.entries[0] == ("online", "customer", 3, 5)
    commits = [entry[3] for entry in journal.entries if entry[0] == "commit"]
    assert commits[-1] == 6
    assert journal.entries[-1] == ("online closed",)
