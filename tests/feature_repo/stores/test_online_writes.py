"""What lands in the online store, what is refused, and what deleting leaves behind."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from feast import FeatureStore
from feast.infra.online_stores.redis import Timestamp
from feast.protos.feast.types.Value_pb2 import Value

from feature_repo.contracts.events import to_epoch_us
from feature_repo.stores.fenced_writes import FENCED_WRITE, FENCED_WRITE_SHA
from feature_repo.stores.online_keys import hash_key
from feature_repo.stores.redis_layout import encode_created, encode_timestamp
from tests.feature_repo.stores.both_stores import (
    NOW,
    OURS,
    PROJECT,
    STOCK,
    entity_key,
    open_with,
    write,
)

C1 = entity_key(customer_id="c1")
SECOND = timedelta(seconds=1)


def put(
    store: FeatureStore, value: int, at: datetime = NOW, created: datetime | None = None
) -> None:
    write(store, "every", [(C1, {"an_int64": value})], at, created)


def stored(store: FeatureStore) -> Any:
    answer = store.get_online_features(["every:an_int64"], [{"customer_id": "c1"}])
    return answer.to_dict()["an_int64"][0]


def test_an_older_event_time_never_replaces_a_newer_one(ours: FeatureStore) -> None:
    put(ours, 1, NOW)
    put(ours, 2, NOW - timedelta(microseconds=1))
    assert stored(ours) == 1
    put(ours, 3, NOW + timedelta(microseconds=1))
    assert stored(ours) == 3


def test_a_correction_lands(ours: FeatureStore) -> None:
    put(ours, 1)
    put(ours, 2)
    assert stored(ours) == 2
    put(ours, 3, created=NOW + SECOND)
    put(ours, 4, created=NOW + SECOND)  # as late: the later write counts
    assert stored(ours) == 4
    put(ours, 5, created=NOW)  # an earlier state of the same row
    assert stored(ours) == 4
    put(ours, 6)  # who says nothing of when corrects
    assert stored(ours) == 6
    put(ours, 7, NOW + SECOND, created=NOW - SECOND)  # a later event, whenever it was created
    assert stored(ours) == 7


def test_a_created_time_counts_for_its_own_event_time_only(folder: Path, valkey: str) -> None:
    ours, stock = open_with(OURS, folder, valkey), open_with(STOCK, folder, valkey)
    put(ours, 1, NOW, created=NOW + 9 * SECOND)
    put(stock, 2, NOW + SECOND)
    put(ours, 3, NOW + SECOND, created=NOW)
    assert stored(ours) == stored(stock) == 3


def test_rows_of_one_batch_are_ordered_too(ours: FeatureStore) -> None:
    provider, view = ours._get_provider(), ours.get_feature_view("every")
    numbers = list(range(200))
    random.Random(1).shuffle(numbers)
    rows = [
        (C1, {"an_int64": Value(int64_val=n)}, NOW + n * timedelta(microseconds=1), None)
        for n in numbers
    ]
    done: list[int] = []
    provider.online_write_batch(ours.config, view, rows, done.append)
    assert stored(ours) == 199
    assert sum(done) == 200


def test_rows_may_have_different_features(ours: FeatureStore) -> None:
    provider, view = ours._get_provider(), ours.get_feature_view("every")
    rows = [
        (entity_key(customer_id="a"), {"an_int64": Value(int64_val=1)}, NOW, None),
        (entity_key(customer_id="b"), {"a_bool": Value(bool_val=True)}, NOW, None),
        (entity_key(customer_id="c"), {"an_int64": Value(int64_val=3)}, NOW, None),
        (entity_key(customer_id="d"), {}, NOW, None),
    ]
    provider.online_write_batch(ours.config, view, rows, None)
    found = ours.get_online_features(
        ["every:an_int64", "every:a_bool"], [{"customer_id": name} for name in "abcd"]
    ).to_dict()
    assert found["an_int64"] == [1, None, 3, None]
    assert found["a_bool"] == [None, True, None, None]


def test_a_naive_event_time_is_utc(ours: FeatureStore) -> None:
    put(ours, 1, NOW)
    put(ours, 2, (NOW - SECOND).replace(tzinfo=None))
    assert stored(ours) == 1


def test_writers_at_once_never_take_a_value_back(folder: Path, valkey: str) -> None:
    done = threading.Event()
    went_back: list[tuple[int, int]] = []

    def replay(seed: int) -> None:
        store = open_with(OURS, folder, valkey)
        order = list(range(1, 61))
        random.Random(seed).shuffle(order)
        for number in order:
            put(store, number, NOW + number * SECOND)

    def watch() -> None:
        store, seen = open_with(OURS, folder, valkey), 0
        while not done.is_set():
            now = stored(store) or 0
            if now < seen:
                went_back.append((seen, now))
            seen = now

    watcher = threading.Thread(target=watch)
    writers = [threading.Thread(target=replay, args=(seed,)) for seed in range(4)]
    for thread in (watcher, *writers):
        thread.start()
    for writer in writers:
        writer.join()
    done.set()
    watcher.join()
    assert went_back == []
    assert stored(open_with(OURS, folder, valkey)) == 60


INSTANTS = [
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
    datetime(2026, 1, 1, tzinfo=UTC),
    datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
    datetime(2106, 2, 7, 6, 28, 16, tzinfo=UTC),  # past 32 bits
    datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
]


def test_the_server_orders_instants_as_we_do(client: Any) -> None:
    assert client.script_load(FENCED_WRITE) == FENCED_WRITE_SHA

    def land(stamp: bytes, created: bytes = b"") -> int:
        return int(client.evalsha(FENCED_WRITE_SHA, 1, "k", "_ts:v", "_created:v", 1, 1, "f",
                                  stamp, created, "x"))  # fmt: skip

    stamps = [encode_timestamp(to_epoch_us(instant)) for instant in INSTANTS]
    for instant, stamp in zip(INSTANTS, stamps, strict=True):
        proto = Timestamp()
        proto.FromDatetime(instant)
        assert proto.SerializeToString() == stamp
    for older, newer in pairwise(stamps):
        client.delete("k")
        assert (land(newer), land(older), land(newer)) == (1, 0, 1)
        client.delete("k")
        assert (land(older), land(newer)) == (1, 1)
    marks = [encode_created(to_epoch_us(instant)) for instant in INSTANTS]
    for older, newer in pairwise(marks):
        client.delete("k")
        assert (land(stamps[0], newer), land(stamps[0], older), land(stamps[0], newer)) == (1, 0, 1)


def test_the_script_is_loaded_again_after_the_server_lost_it(
    ours: FeatureStore, client: Any
) -> None:
    put(ours, 1)
    client.script_flush()
    put(ours, 2)
    assert stored(ours) == 2


def fill(store: FeatureStore) -> None:
    customers = [entity_key(customer_id=name) for name in ("c1", "c2")]
    write(store, "every", [(key, {"an_int64": 1}) for key in customers], created=NOW)
    write(store, "brief", [(key, {"brief_int": 1}) for key in customers])
    write(store, "trips", [(entity_key(driver_id=1), {"trip_count": 1})])
    write(store, "pairs", [(entity_key(customer_id=c, driver_id=1), {"rides": 1})
                           for c in ("c1", "c2")])  # fmt: skip


def test_a_forgotten_entity_leaves_nothing_behind(ours: FeatureStore, client: Any) -> None:
    fill(ours)
    online = ours._get_provider().online_store
    assert online.delete_entity(ours.config, [{"customer_id": "c1"}]) == 2
    left = list(client.scan_iter())
    assert len(left) == 3
    assert not any(b"c1" in key for key in left)
    assert online.delete_entity(ours.config, [{"customer_id": "c1"}]) == 0
    assert online.delete_entity(ours.config, [{"driver_id": 1}, {"customer_id": "c2"}]) == 3
    assert client.dbsize() == 0


def test_a_view_that_is_gone_is_removed_and_others_stay(ours: FeatureStore, client: Any) -> None:
    fill(ours)
    online = ours._get_provider().online_store
    online.update(ours.config, [ours.get_feature_view("every")], [], [], [], partial=False)
    rows = [{"customer_id": "c1"}]
    found = ours.get_online_features(["every:an_int64", "brief:brief_int"], rows).to_dict()
    assert (found["an_int64"], found["brief_int"]) == ([None], [1])
    assert {len(client.hgetall(key)) for key in client.scan_iter()} == {2}
    online.update(ours.config, [ours.get_feature_view("brief")], [], [], [], partial=False)
    assert client.dbsize() == 3  # a hash without a view is gone


def test_teardown_takes_this_projects_entities_only(
    ours: FeatureStore, client: Any, folder: Path
) -> None:
    fill(ours)
    client.set("else", "1")
    # Feast's stock store would take it: its name ends in this project's.
    client.hset(hash_key(C1, f"my{PROJECT}"), "f", "v")
    views = [ours.get_feature_view(name) for name in ("every", "brief", "trips", "pairs")]
    ours._get_provider().teardown_infra(PROJECT, views, [])
    assert len(list(client.scan_iter())) == 2
    put(ours, 1)  # and it may be used again
    assert stored(ours) == 1
