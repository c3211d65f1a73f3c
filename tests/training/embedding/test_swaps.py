"""Sessions swapped for others of the same kind, and what vectors know of their session."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="networks are trained with the extra `torch`")

import torch

from training.embedding.contents import contents_of, widths
from training.embedding.prepared import Prepared
from training.embedding.swaps import draw_swaps


def test_a_swap_is_another_customers_of_the_same_corridor_and_intent() -> None:
    rng = np.random.default_rng(1)
    corridor, intent, customer = (rng.integers(0, most, 2_000) for most in (5, 7, 100))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        here, other = (part.numpy() for part in draw_swaps(corridor, intent, customer, 0.5))
        again = draw_swaps(corridor, intent, customer, 0.5)
        everything = draw_swaps(corridor, intent, customer, 1.0)
        nothing = draw_swaps(corridor, intent, customer, 0.0)
    assert 900 < len(here) < 1_100
    assert len(np.unique(here)) == len(here)
    np.testing.assert_array_equal(corridor[here], corridor[other])
    np.testing.assert_array_equal(intent[here], intent[other])
    assert (customer[here] != customer[other]).all()
    assert not np.array_equal(here, again.here.numpy())
    assert len(everything.here) > 1_900
    assert len(nothing.here) == 0


def test_contents_are_of_the_session_and_of_those_so_far() -> None:
    # Two customers, of two sessions and one; events of types 2, 3 and 4.
    types = np.array([2, 3, 3, 4, 4, 4, 2])
    nothing = np.zeros(0, np.float32)
    numbers = np.arange(12, dtype=np.float32).reshape(3, 4)
    prepared = Prepared(
        customers=np.array([0, 2, 3]),
        events=np.array([0, 3, 6, 7]),
        shots=np.zeros(4, np.int64),
        codes=np.column_stack([types, types, types, types]),
        numbers=nothing,
        session_numbers=numbers,
        corridor=np.zeros(3, np.int64),
        times=nothing,
        elapsed=nothing,
        snapshots=nothing,
        hour=np.zeros(3),
    )
    contents = contents_of(prepared, 5)
    assert (contents.happened.shape[1], contents.numbers.shape[1]) == widths(5)
    assert contents.happened.tolist() == [[1, 1, 0], [0, 0, 1], [1, 0, 0]]
    # Means of the numbers lie where the sessions' do: (0), (0 + 4) / 2, (8): 0, 2, 8.
    own, means = contents.numbers[:, 0], contents.numbers[:, 4]
    assert own[0] < own[1] < own[2]
    standard = (np.array([0.0, 2.0, 8.0]) - 10 / 3) / np.std([0.0, 2.0, 8.0])
    np.testing.assert_allclose(means, standard, atol=1e-6)
