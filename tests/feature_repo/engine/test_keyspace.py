"""Blocks that grow leave holes; these are closed while events come in, and nothing else changes."""

from __future__ import annotations

from itertools import pairwise

from feature_repo.engine import assign
from feature_repo.engine.keyspace import Keyspace
from feature_repo.engine.program import Program
from feature_repo.engine.projection import project
from feature_repo.engine.shard import Shard
from tests.feature_repo.engine.cases import batch_of
from tests.feature_repo.engine.small_set import MINUTE, fold, view

KEYS = [f"k{number}" for number in range(60)]


def space_of(shard: Shard) -> Keyspace:
    return shard._space


def test_growing_blocks_leave_few_holes_and_keep_what_they_hold(program: Program) -> None:
    shard, other = Shard(program), Shard(program)
    records = [
        view(100 * step + at, step * MINUTE, key)
        for step in range(120)
        for at, key in enumerate(KEYS)
        if (step + at) % 3 or step > 60  # so that they do not all grow at once
    ]
    for start in range(0, len(records), 50):
        shard.fold(project(program, batch_of(records[start : start + 50])), rows=False)
    other.fold(project(program, batch_of(records)), rows=False)
    space = space_of(shard)
    used, live = int(space.counters[assign.N_WORDS]), int(space.slot_words[: space.keys].sum())
    assert live < used < 2 * live
    taken = sorted(
        (int(at), int(at) + int(words))
        for at, words in zip(space.slot_at[: space.keys], space.slot_words, strict=False)
    )
    assert all(end <= begin for (_, end), (begin, _) in pairwise(taken))
    last = [view(99_000 + at, 121 * MINUTE, key) for at, key in enumerate(KEYS)]
    assert fold(shard, *last).states.equals(fold(other, *last).states)
    whole = shard.snapshot()
    assert len(whole["blocks"]) == int(space.slot_words[: space.keys].sum())  # without holes


def test_identities_outlive_their_tables(program: Program) -> None:
    """A table of identities grows, and takes its turn, without forgetting what is recent."""
    shard = Shard(program)
    for step in range(30):
        batch = [view(1_000 * step + at, step * 7 * MINUTE) for at in range(1_000)]
        assert fold(shard, *batch).duplicates == 0
        assert fold(shard, *batch).duplicates == 1_000
