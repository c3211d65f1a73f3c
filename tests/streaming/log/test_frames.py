from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pytest

from feature_repo.contracts.settings import SHARDS
from streaming.log.frames import (
    Frame,
    Unreadable,
    merge_frames,
    shard_of,
    shards_of,
    split_by_shard,
)
from tests.streaming.made_events import batch_of, page_view


@pytest.mark.parametrize("shards", [1, 3, SHARDS])
def test_each_event_goes_to_its_keys_shard_and_keeps_its_order(shards: int) -> None:
    events = batch_of([page_view(number, f"c{number % 37}") for number in range(200)])
    split = split_by_shard(events, events.column("customer_id"), shards)
    assert sum(len(rows) for _, rows in split) == len(events)
    assert [shard for shard, _ in split] == list(range(shards))
    for shard, rows in split:
        customers = rows.column("customer_id").to_pylist()
        assert {shard_of(customer, shards) for customer in customers} == {shard}
        numbers = [int(name[1:]) for name in rows.column("event_id").to_pylist()]
        assert numbers == sorted(numbers)


def test_the_hash_is_storage_format() -> None:
    # Values written down once: if this fails, every stored log is read by the wrong shards.
    keys = [f"customer-{number}" for number in range(8)]
    assert [shard_of(key, 8) for key in keys] == [5, 4, 7, 7, 2, 7, 4, 6]
    assert shards_of(pa.array(keys), 8).tolist() == [5, 4, 7, 7, 2, 7, 4, 6]


def test_columns_and_single_keys_hash_alike() -> None:
    keys = ["", "a", "GB-NG", "ÄÖ", "日本語のとても長い鍵", "x" * 1_000, *map(str, range(500))]
    column = pa.array([*keys, None])
    assert shards_of(column, 13).tolist() == [shard_of(key, 13) for key in [*keys, ""]]
    assert shards_of(column.slice(3, 4), 13).tolist() == [shard_of(key, 13) for key in keys[3:7]]
    assert shards_of(pa.array([], pa.string())).tolist() == []


def test_customers_spread_evenly() -> None:
    counts = Counter(shards_of(pa.array([f"customer-{n}" for n in range(8_000)])).tolist())
    assert len(counts) == SHARDS
    assert all(1_800 < count < 2_200 for count in counts.values())


def test_an_empty_batch_splits_into_nothing() -> None:
    events = batch_of([page_view(0)]).slice(0, 0)
    assert split_by_shard(events, events.column("customer_id")) == []


def test_neighbours_of_a_partition_are_merged_up_to_a_size() -> None:
    def frame(partition: int, offset: int) -> Frame:
        return Frame("customer", partition, offset, batch_of([page_view(offset)]))

    bad = Unreadable("customer", 1, 4, "?", "a frame")
    merged = merge_frames([frame(0, 0), frame(0, 1), frame(1, 3), bad, frame(1, 5)], rows=10)
    assert [(entry.partition, entry.offset) for entry in merged] == [(0, 1), (1, 3), (1, 4), (1, 5)]
    first = merged[0]
    assert isinstance(first, Frame)
    assert first.events.column("event_id").to_pylist() == ["e0", "e1"]
    assert merged[2] is bad
    sized = merge_frames([frame(0, number) for number in range(7)], rows=3)
    assert [len(entry.events) for entry in sized if isinstance(entry, Frame)] == [3, 3, 1]
