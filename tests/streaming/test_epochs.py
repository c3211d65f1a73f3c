"""The order in which an epoch is committed."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest

from feature_repo.contracts.features import CUSTOMER, FEATURE_SET
from feature_repo.engine.program import compile_program
from feature_repo.engine.shard import Shard
from streaming.checkpoints import CheckpointError, PartitionCheckpoint
from streaming.epochs import Commit, Epochs
from streaming.lineage import LogRun
from streaming.updates import Admitted, Barrier, Position, Snapshot, Update
from tests.streaming.made_events import batch_of, page_view
from tests.streaming.stubs import Checkpoint, Journal, Rows

OWNED = ("customer", 0)
PROGRAM = compile_program(FEATURE_SET, CUSTOMER)
RUN = LogRun("valkey", "", 7, complete=True)


def update(offset: int, events: int = 2) -> Update:
    batch = batch_of([page_view(n) for n in range(events)])
    nothing = pa.array([], pa.string())
    rows = Shard(PROGRAM).fold(batch, states=False).feature_rows
    return Update(
        Admitted(*OWNED, offset, offset, batch),
        rows,
        nothing,
        nothing.cast(pa.binary()),
        np.empty(0, np.int64),
        0,
    )


def barrier(offset: int) -> Barrier:
    return Barrier({OWNED: Position(offset, 10 * offset)})


def epochs(journal: Journal, **options: Any) -> Epochs:
    return Epochs(
        {"customer": Rows(journal, "rows")},
        ("customer", Rows(journal, "archive")),
        {OWNED: cast(PartitionCheckpoint, Checkpoint(journal))},
        RUN,
        **options,
    )


def commit(journal: Journal, offset: int) -> Commit:
    return Commit(barrier(offset), lambda: journal.note("acknowledged"))


def test_an_epoch_is_committed_in_order() -> None:
    journal = Journal()
    thread = epochs(
        journal,
        check=lambda: journal.note("check"),
        committed=lambda positions: journal.note("done", dict(positions)),
    )
    for item in (update(1), update(2), commit(journal, 2), update(3)):
        thread.put(item)
    thread.close()
    assert journal.entries == [
        ("write", "archive", 0, 1, 2),
        ("write", "archive", 0, 2, 2),
        ("acknowledged",),
        ("check",),
        ("write", "rows", 0, 1, 4),  # those of both updates
        ("flush", "archive", 0),
        ("flush", "rows", 0),
        ("delta", 4),
        ("commit", "valkey", 7, 2, 20),
        ("done", {OWNED: Position(2, 20)}),
        ("write", "archive", 0, 3, 2),
    ]


@pytest.mark.parametrize("keep_events", [True, False])
def test_a_base_comes_after_the_events_before_it(keep_events: bool) -> None:
    journal = Journal()
    thread = epochs(journal, keep_events=keep_events)
    for item in (update(1), Snapshot(OWNED, {}), update(2), commit(journal, 2)):
        thread.put(item)
    thread.close()
    kept = [entry for entry in journal.entries if entry[0] in ("delta", "base", "commit")]
    last = ("commit", "valkey", 7, 2, 20)
    assert kept == (
        [("delta", 2), ("base", False), ("delta", 2), last]
        if keep_events
        else [("base", True), last]
    )


def test_a_failed_commit_is_told_and_nothing_comes_after_it() -> None:
    journal = Journal()

    def ended() -> None:
        raise CheckpointError("generation", 8, "7", "start again")

    thread = epochs(journal, check=ended)
    thread.put(commit(journal, 1))

    def go_on() -> None:
        while True:
            thread.put(update(1))

    with pytest.raises(CheckpointError, match="start again"):
        go_on()
    assert not [entry for entry in journal.entries if entry[0] in ("flush", "delta", "commit")]
    with pytest.raises(CheckpointError, match="start again"):
        thread.close()


def test_a_base_copied_in_steps_holds_what_came_before_the_first_step() -> None:
    journal = Journal()
    thread = epochs(journal)
    whole = Snapshot(OWNED, {})
    for item in (update(1), Snapshot(OWNED), update(2), whole, update(3), commit(journal, 3)):
        thread.put(item)
    thread.close()
    assert whole.written.is_set()
    kept = [entry for entry in journal.entries if entry[0] in ("begin", "delta", "base", "commit")]
    last = ("commit", "valkey", 7, 3, 30)
    assert kept == [("delta", 2), ("begin",), ("base", False), ("delta", 4), last]
