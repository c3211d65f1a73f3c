"""The index of vectors, held to comparing with everybody."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from feature_repo.contracts.embeddings import EMBEDDING_WIDTH, Singles
from feature_repo.stores.forgotten import Forgotten, Tombstone, key_of
from serving.similar_vectors import NearestVectors

CORRIDORS = ("GB-NG", "GB-IN", "US-MX", None)
RARE = "FR-SN"


def vectors_of(count: int, seed: int = 0, groups: int = 12) -> Singles:
    """Unit vectors around some centres."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((groups, EMBEDDING_WIDTH))
    noise = random.standard_normal((count, EMBEDDING_WIDTH))
    found = centres[random.integers(0, groups, count)] + 0.5 * noise
    unit: Singles = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    return unit


class World:
    """An index of n customers and all that is known of them, compared one by one."""

    def __init__(self, count: int) -> None:
        self.names = [f"c{number}" for number in range(count)]
        self.vectors = vectors_of(count)
        self.corridors = [CORRIDORS[number % 4] for number in range(count)]
        for number in range(0, count, max(1, count // 15)):
            self.corridors[number] = RARE
        self.segments = ["long" if number % 3 else "brief" for number in range(count)]
        self.index = NearestVectors(
            7, pl.Series(self.names, dtype=pl.String), self.vectors, np.full(count, 100)
        )
        self.index.label(
            pl.Series(self.corridors, dtype=pl.String), pl.Series(self.segments, dtype=pl.String)
        )

    def cosine(self, other: str, customer: int) -> float:
        return float(self.vectors[int(other[1:])] @ self.vectors[customer])

    def nearest(
        self, customer: int, most: int, corridor: str | None = None, segment: str | None = None
    ) -> list[str]:
        """The truth."""
        near: npt.NDArray[np.float32] = self.vectors @ self.vectors[customer]
        order = np.argsort(-near, kind="stable").tolist()
        return [
            self.names[each]
            for each in order
            if each != customer
            and corridor in {None, self.corridors[each]}
            and segment in {None, self.segments[each]}
        ][:most]


@pytest.fixture(scope="module")
def world() -> World:
    return World(3_000)


@pytest.mark.parametrize("corridor", [None, "GB-NG", RARE])
@pytest.mark.parametrize("segment", [None, "brief"])
def test_few_are_compared_with_everybody(
    world: World, corridor: str | None, segment: str | None
) -> None:
    for customer in (0, 17, 2_999):
        found = world.index.search(f"c{customer}", 10, corridor, segment)
        assert found is not None
        # Vectors are kept as halves: those that are equally near to 0.001 may change places.
        truth = [
            world.cosine(each, customer) for each in world.nearest(customer, 10, corridor, segment)
        ]
        assert [world.cosine(each.customer, customer) for each in found] == pytest.approx(
            truth, abs=1e-3
        )
        assert len({each.customer for each in found} - {f"c{customer}"}) == len(truth)
        for each in found:
            number = int(each.customer[1:])
            assert each.similarity == pytest.approx(world.cosine(each.customer, customer), abs=1e-3)
            assert (each.corridor, each.segment) == (
                world.corridors[number], world.segments[number],
            )  # fmt: skip


def test_among_many_most_are_found_and_a_rare_corridor_whole() -> None:
    many = World(100_000)  # 100 lists, of which 64 are looked through
    hits = 0
    for customer in range(0, 100_000, 2_000):
        found = many.index.search(f"c{customer}", 10)
        assert found is not None
        hits += len({each.customer for each in found} & set(many.nearest(customer, 10)))
    assert hits >= 0.95 * 500
    # 16 customers in as many lists: all of them, wherever they lie.
    found = many.index.search("c1", 50, RARE)
    assert found is not None
    assert {each.customer for each in found} == set(many.nearest(1, 50, RARE))


def test_nobody_and_nobody_who_passes(world: World) -> None:
    assert world.index.search("nobody", 10) is None
    assert world.index.search("c1", 10, "XX-YY") == []
    assert world.index.search("c1", 10, "GB-NG", "unheard of") == []
    empty = NearestVectors(
        1, pl.Series([], dtype=pl.String), np.empty((0, 64), np.float32), np.empty(0, np.int64)
    )
    assert empty.search("c1", 10) is None
    empty.put(["c1", "c2"], vectors_of(2), [5, 5])
    (found,) = empty.search("c1", 10) or []
    assert (found.customer, found.corridor, found.segment) == ("c2", None, None)


def test_vectors_change_and_older_ones_are_passed_over() -> None:
    world = World(200)
    near = world.vectors[:1]
    world.index.put(["c9"], near, [99])  # older than what is there
    assert "c9" not in names(world, "c0", 1)
    world.index.put(["c9"], near, [101])
    assert names(world, "c0", 1) == ["c9"]
    world.vectors[9] = near[0]
    assert set(names(world, "c9", 5)) == set(world.nearest(9, 5))
    # A new one, and one who comes twice at a time: the last counts.
    world.index.put(["new", "c10", "c10"], np.concatenate([near, near, -near]), [5, 102, 103])
    assert set(names(world, "c9", 2)) == {"c0", "new"}
    assert names(world, "c10", 1) != ["c9"]
    assert len(world.index) == 201
    assert "new" in world.index


def test_who_is_taken_out_is_nobodys_neighbour() -> None:
    world = World(300)
    first, second, *_ = names(world, "c0", 3)
    assert names(world, "c0", 300, world.corridors[int(first[1:])])  # keeps the filter's bits
    assert world.index.remove([first, "nobody", first]) == 1
    assert names(world, "c0", 1) == [second]
    assert world.index.search(first, 10) is None
    # Somebody else takes the place, and nothing of what was known there.
    world.index.put(["other"], world.vectors[:1], [5])
    assert names(world, "c0", 1) == ["other"]
    assert "other" not in names(world, "c0", 300, world.corridors[int(first[1:])])


def test_the_forgotten_leave_unless_they_came_again() -> None:
    world = World(50)
    world.index.put(["c2"], world.vectors[2:3], [200])
    gone = Forgotten({key_of("c1"): Tombstone(150), key_of("c2"): Tombstone(150)})
    assert world.index.forget(gone) == 1
    assert "c1" not in world.index
    assert "c2" in world.index
    assert len(names(world, "c0", 50)) == 48


def test_an_index_tells_when_it_is_outgrown() -> None:
    world = World(10)
    assert not world.index.outgrown
    count = 10_100
    world.index.put([f"n{n}" for n in range(count)], vectors_of(count), [1] * count)
    assert world.index.outgrown


def names(world: World, customer: str, most: int, corridor: str | None = None) -> list[str]:
    return [each.customer for each in world.index.search(customer, most, corridor) or []]
