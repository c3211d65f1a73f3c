"""Batches: every session once, little of them padding, long customers in chunks."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training.embedding.made import book, made_session

pytest.importorskip("torch", reason="networks are trained with the extra `torch`")

import polars as pl

from feature_repo.scoring.embedding_sessions import Sessions
from training.embedding.batches import chunks, dealt
from training.embedding.prepared import Prepared, prepare
from training.embedding.sequences import Sequences


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    counts = [1, 7, 3, 5, 2, 7]
    sessions = [
        made_session(number, 1 + number % 3, customer=customer, snapshots=(number + customer) % 3)
        for customer, count in enumerate(counts)
        for number in range(count)
    ]
    return prepare(
        book(),
        Sequences(
            pl.Series([f"c{customer}" for customer in range(len(counts))]),
            np.cumsum([0, *counts]),
            Sessions.joined(sessions),
            np.zeros(len(sessions), dtype=np.int64),
        ),
    )


def test_everybody_is_dealt_once_and_little_is_padding() -> None:
    rng = np.random.default_rng(3)
    counts = rng.geometric(0.03, 5_000) - 1
    batches = dealt(counts, 2_048, 256, rng)
    assert sorted(np.concatenate(batches).tolist()) == np.flatnonzero(counts).tolist()
    padded = sum(len(each) * counts[each].max() for each in batches)
    assert counts.sum() / padded > 0.85
    assert max(len(each) * min(counts[each].max(), 256) for each in batches) <= 2_048
    again = dealt(counts, 2_048, 256, np.random.default_rng(4))
    assert [each.tolist() for each in again] != [each.tolist() for each in batches]


def test_a_customer_beyond_a_batch_is_one_of_its_own() -> None:
    assert [each.tolist() for each in dealt(np.array([0, 9, 1]), 4, 256)] == [[2], [1]]


def test_chunks_go_through_time_and_hold_each_session_once(prepared: Prepared) -> None:
    customers = np.array([3, 1, 0])
    found = list(chunks(prepared, customers, 3))
    assert [batch.longest for batch, _ in found] == [3, 3, 1]
    assert [going.tolist() for _, going in found] == [[0, 1, 2], [0, 1], [1]]
    rows = np.sort(np.concatenate([batch.rows for batch, _ in found]))
    first = prepared.customers
    expected = [range(first[who], first[who + 1]) for who in customers]
    assert rows.tolist() == sorted(row for each in expected for row in each)
    for batch, _ in found:
        events = np.concatenate(
            [np.arange(prepared.events[row], prepared.events[row + 1]) for row in batch.rows]
        )
        np.testing.assert_array_equal(batch.numbers.numpy(), prepared.numbers[events])
        np.testing.assert_array_equal(np.bincount(batch.segment.numpy()),
                                      np.diff(prepared.events)[batch.rows])  # fmt: skip
        shots = np.concatenate(
            [np.arange(prepared.shots[row], prepared.shots[row + 1]) for row in batch.rows]
        )
        np.testing.assert_array_equal(batch.snapshots.numpy(), prepared.snapshots[shots])
        assert len(set(batch.slot.tolist())) == len(batch.rows)
        assert int(batch.snapshots_seen.max()) <= batch.most_snapshots
