from __future__ import annotations

from collections import Counter

import pyarrow as pa

from feature_repo.contracts.settings import SHARDS
from streaming.log.frames import shard_of, split_by_shard
from tests.streaming.made_events import batch_of, page_view


def test_each_event_goes_to_its_customers_shard_and_keeps_its_order() -> None:
    events = [page_view(number, f"c{number % 37}") for number in range(200)]
    split = split_by_shard(batch_of(events))
    assert sum(len(rows) for _, rows in split) == len(events)
    for shard, rows in split:
        customers = rows.column("customer_id").to_pylist()
        assert {shard_of(customer) for customer in customers} == {shard}
        numbers = [int(name[1:]) for name in rows.column("event_id").to_pylist()]
        assert numbers == sorted(numbers)


def test_the_hash_is_storage_format() -> None:
    # Values written down once: if this fails, every stored log is read by the wrong shards.
    assert [shard_of(f"customer-{number}") for number in range(8)] == [5, 4, 7, 7, 2, 7, 4, 6]


def test_customers_spread_evenly() -> None:
    counts = Counter(shard_of(f"customer-{number}") for number in range(8_000))
    assert len(counts) == SHARDS
    assert all(800 < count < 1_200 for count in counts.values())


def test_an_empty_batch_splits_into_nothing() -> None:
    assert split_by_shard(batch_of([page_view(0)]).slice(0, 0)) == []
    assert isinstance(batch_of([]), pa.RecordBatch)
