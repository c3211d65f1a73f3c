"""Small batches of several shards, folded together, give what each gives alone."""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from feature_repo.engine.program import Program
from feature_repo.engine.shard import Shard
from feature_repo.engine.together import fold_together
from tests.feature_repo.engine.cases import START, batch_of, record
from tests.feature_repo.engine.small_set import MINUTE, payment, view


def test_folded_together_is_folded_one_by_one(program: Program) -> None:
    unwanted = record(
        event_id="x", event_time=START, customer_id="a", event_type="label", page="p9"
    )
    batches = [
        batch_of([view(1, timedelta(0)), unwanted, payment(2, MINUTE, 5)]),
        batch_of([view(3, timedelta(0), "b"), view(3, timedelta(0), "b")]),
        batch_of([unwanted]),
        batch_of([payment(4, 2 * MINUTE, 7), view(5, MINUTE)]),  # late for the first batch
    ]
    together = [Shard(program), Shard(program), Shard(program)]
    alone = [Shard(program), Shard(program), Shard(program)]
    whose = [0, 1, 2, 0]

    found = fold_together([together[at] for at in whose], batches)

    for at, batch, got in zip(whose, batches, found, strict=True):
        expected = alone[at].fold(batch)
        assert got.rows.equals(expected.rows)
        assert got.states.equals(expected.states)
        assert got.keys.equals(expected.keys)
        np.testing.assert_array_equal(got.source, expected.source)
        np.testing.assert_array_equal(got.times_us, expected.times_us)
        assert got.duplicates == expected.duplicates
    assert len(found[3].source) > len(batches[3]), "a row was given again"
    assert found[1].duplicates == 1
