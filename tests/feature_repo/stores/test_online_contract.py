"""Our online store and Feast's stock Redis store read and write each other's bytes."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from feast import FeatureStore, ValueType

from tests.feature_repo.stores.both_stores import (
    NOW,
    STOCK,
    encoded,
    entity_key,
    open_with,
    statuses,
    write,
)
from tests.feature_repo.stores.every_type import EVERY, NOT_A_FEATURES

REFS = [f"every:{name}" for name in EVERY]
# Each row takes the next of each feature's values; the last has nulls only.
ROWS: dict[str, dict[str, Any]] = {
    f"c{number}": {name: values[number % len(values)] for name, (_, values) in EVERY.items()}
    for number in range(9)
} | {"nulls": dict.fromkeys(EVERY)}
ENTITIES = [{"customer_id": key} for key in ROWS]


@pytest.fixture
def stock(folder: Path, valkey: str) -> FeatureStore:
    return open_with(STOCK, folder, valkey)


def write_rows(store: FeatureStore) -> None:
    write(store, "every", [(entity_key(customer_id=key), row) for key, row in ROWS.items()])
    write(store, "trips", [(entity_key(driver_id=n), {"trip_count": n}) for n in (0, -5, 2**40)])
    pair = entity_key(customer_id="c1", driver_id=7)
    write(store, "pairs", [(pair, {"rides": 3})])


def everything(client: Any) -> dict[bytes, dict[bytes, bytes]]:
    return {key: client.hgetall(key) for key in client.scan_iter()}


def test_every_value_type_is_here() -> None:
    tested = {dtype.to_value_type() for dtype, _ in EVERY.values()}
    assert tested == set(ValueType) - NOT_A_FEATURES


def test_the_bytes_are_the_stock_stores(
    stock: FeatureStore, ours: FeatureStore, client: Any
) -> None:
    write_rows(stock)
    theirs = everything(client)
    client.flushall()
    write_rows(ours)
    assert everything(client) == theirs
    assert len(theirs) == len(ROWS) + 3 + 1


@pytest.mark.parametrize("count", [1, 2, len(ROWS)], ids=lambda n: f"{n} rows")
@pytest.mark.parametrize("writer", ["stock", "ours"])
def test_values_and_times_are_read_alike(
    stock: FeatureStore, ours: FeatureStore, writer: str, count: int
) -> None:
    write_rows({"stock": stock, "ours": ours}[writer])
    entities = ENTITIES[-count:]
    theirs = stock.get_online_features(REFS, entities)
    answer = ours.get_online_features(REFS, entities)
    assert answer.to_dict() == theirs.to_dict()
    assert answer.to_dict(include_event_timestamps=True) == theirs.to_dict(True)
    assert answer.to_df().equals(theirs.to_df())
    assert list(answer.proto.metadata.feature_names.val) == list(
        theirs.proto.metadata.feature_names.val
    )
    for mine, other in zip(answer.proto.results, theirs.proto.results, strict=True):
        assert list(mine.values) == list(other.values)
        assert list(mine.event_timestamps) == list(other.event_timestamps)
    # Here they differ, and ours are true.
    assert {status[-1] for name, status in statuses(answer).items() if name in EVERY} == {
        "NULL_VALUE"
    }
    assert {status[-1] for status in statuses(theirs).values()} == {"PRESENT"}


@pytest.mark.parametrize("full_names", [False, True])
def test_several_entities_and_repeated_rows(
    stock: FeatureStore, ours: FeatureStore, full_names: bool
) -> None:
    write_rows(stock)
    refs = ["every:an_int64", "trips:trip_count", "every:a_string"]
    rows = [
        {"customer_id": customer, "driver_id": driver, "ignored": 1}
        for customer, driver in (("c3", 2**40), ("c1", 0), ("c3", -5), ("c1", 0))
    ]
    theirs = stock.get_online_features(refs, rows, full_feature_names=full_names)
    answer = ours.get_online_features(refs, rows, full_feature_names=full_names)
    assert answer.to_dict() == theirs.to_dict()
    assert answer.proto == theirs.proto
    columns = {name: [row[name] for row in rows] for name in ("customer_id", "driver_id")}
    assert (
        ours.get_online_features(refs, columns).to_dict()
        == stock.get_online_features(refs, columns).to_dict()
    )


def test_a_view_of_two_join_keys(stock: FeatureStore, ours: FeatureStore) -> None:
    write_rows(ours)
    rows = [
        {"driver_id": 7, "customer_id": "c1"},
        {"driver_id": 8, "customer_id": "c1"},
        {"driver_id": 7, "customer_id": "c1"},
    ]
    refs = ["pairs:rides", "every:an_int64"]
    answer = ours.get_online_features(refs, rows)
    assert answer.to_dict() == stock.get_online_features(refs, rows).to_dict()
    assert answer.to_dict()["rides"] == [3, None, 3]
    assert statuses(answer)["rides"] == ["PRESENT", "NOT_FOUND", "PRESENT"]


def test_statuses_tell_the_truth(ours: FeatureStore) -> None:
    write(ours, "brief", [(entity_key(customer_id="fresh"), {"brief_int": 1})])
    old = NOW - timedelta(hours=1, seconds=60)
    write(ours, "brief", [(entity_key(customer_id="old"), {"brief_int": 2})], old)
    write(ours, "brief", [(entity_key(customer_id="null"), {"brief_int": None})])
    write(ours, "every", [(entity_key(customer_id="other view"), {"an_int64": 1})])
    rows = [{"customer_id": name} for name in ("fresh", "old", "null", "other view", "absent")]
    answer = ours.get_online_features(["brief:brief_int"], rows)
    wanted = ["PRESENT", "OUTSIDE_MAX_AGE", "NULL_VALUE", "NOT_FOUND", "NOT_FOUND"]
    assert statuses(answer)["brief_int"] == wanted
    assert answer.to_dict()["brief_int"] == [1, None, None, None, None]
    # The event time of what is expired says how long ago.
    stamps = answer.proto.results[1].event_timestamps
    assert stamps[1].ToDatetime() == old.replace(tzinfo=None)
    assert stamps[4].seconds == 0
    # Feast's own way, which requests with on-demand views take, says the same.
    versions = ours.get_online_features(
        ["brief:brief_int"], rows, include_feature_view_version_metadata=True
    )
    assert statuses(versions) == statuses(answer)
    assert [each.name for each in versions.proto.metadata.feature_view_metadata] == ["brief"]


def test_a_feature_added_since_the_last_write_is_not_found(ours: FeatureStore) -> None:
    write(ours, "every", [(entity_key(customer_id="c1"), {"an_int64": 1})])
    answer = ours.get_online_features(["every:an_int64", "every:a_bool"], [{"customer_id": "c1"}])
    assert statuses(answer)["a_bool"] == ["NOT_FOUND"]
    assert answer.to_dict() == {"customer_id": ["c1"], "an_int64": [1], "a_bool": [None]}


def test_async_reads_and_writes_are_the_same(ours: FeatureStore) -> None:
    async def write_and_read() -> Any:
        provider = ours._get_provider()
        rows = [(entity_key(customer_id=key), encoded(row), NOW, None)
                for key, row in ROWS.items()]  # fmt: skip
        view = ours.get_feature_view("every")
        await provider.online_write_batch_async(ours.config, view, rows, None)
        answers = await asyncio.gather(
            *(ours.get_online_features_async(REFS, ENTITIES) for _ in range(4))
        )
        slow = await ours.get_online_features_async(
            REFS, ENTITIES, include_feature_view_version_metadata=True
        )
        single = await provider.online_read_async(
            ours.config, view, [entity_key(customer_id="c2"), entity_key(customer_id="?")]
        )
        await provider.online_store.close()
        return answers, slow, single

    wanted = None
    for _ in range(2):  # a second loop has connections of its own
        answers, slow, single = asyncio.run(write_and_read())
        wanted = wanted or ours.get_online_features(REFS, ENTITIES)
        assert all(answer.to_dict() == wanted.to_dict() for answer in answers)
        assert slow.to_dict() == wanted.to_dict()
        assert statuses(slow) == statuses(wanted)
        assert single[1] == (None, None)
        assert single[0] == (NOW, encoded(ROWS["c2"]))


def test_single_reads_are_the_stock_stores(stock: FeatureStore, ours: FeatureStore) -> None:
    write_rows(ours)
    keys = [entity_key(customer_id=key) for key in ROWS]
    view = ours.get_feature_view("every")
    mine = ours._get_provider().online_read(ours.config, view, keys)
    theirs = stock._get_provider().online_read(stock.config, view, keys, list(EVERY))
    assert [values for _, values in mine] == [values for _, values in theirs]
    assert {time for time, _ in mine} == {NOW}


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        ([{"driver_id": 1}], KeyError),
        ([{"customer_id": "c1"}, {"driver_id": 1}], ValueError),
        ({"customer_id": ["c1"], "driver_id": [1, 2]}, ValueError),
    ],
    ids=["no key", "uneven dicts", "uneven lists"],
)
def test_bad_rows_are_refused_as_by_the_stock_store(
    stock: FeatureStore, ours: FeatureStore, rows: Any, error: type[Exception]
) -> None:
    for store in (stock, ours):
        with pytest.raises(error):
            store.get_online_features(["every:an_int64"], rows)
