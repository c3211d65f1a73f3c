"""Columns of a frame become the bytes that Feast makes of them value by value."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from feast import FeatureStore
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.contracts.events import to_epoch_us
from feature_repo.stores.column_encoding import encode_column, encode_timestamps
from feature_repo.stores.redis_layout import encode_timestamp
from tests.feature_repo.stores.both_stores import NOW, OURS, STOCK, open_with
from tests.feature_repo.stores.every_type import EVERY

PROVIDER = "feature_repo.stores.provider.ColumnarProvider"


def pieces(encoded: Any) -> list[bytes]:
    ends = encoded.offsets.tolist()
    raw = encoded.data.tobytes()
    return [raw[start:end] for start, end in pairwise(ends)]


def by_feast(values: list[Any], declared: ValueType) -> list[bytes]:
    return [proto.SerializeToString() for proto in python_values_to_proto_values(values, declared)]


@pytest.mark.parametrize(
    ("kind", "declared", "values"),
    [
        (pa.int64(), ValueType.INT64, st.integers(-(2**63), 2**63 - 1)),
        (pa.int32(), ValueType.INT32, st.integers(-(2**31), 2**31 - 1)),
        (pa.float64(), ValueType.DOUBLE, st.floats(allow_nan=False)),
        (pa.float32(), ValueType.FLOAT, st.floats(allow_nan=False, width=32)),
        (pa.float64(), ValueType.FLOAT, st.floats(-1e30, 1e30)),
        (pa.bool_(), ValueType.BOOL, st.booleans()),
        (pa.string(), ValueType.STRING, st.text()),
        (pa.large_string(), ValueType.STRING, st.text()),
        # Feast takes a column of none but empty bytes for nulls.
        (pa.binary(), ValueType.BYTES, st.binary(min_size=1, max_size=300)),
        (pa.list_(pa.float32()), ValueType.FLOAT_LIST, st.lists(st.floats(width=32))),
        (pa.list_(pa.float64()), ValueType.FLOAT_LIST, st.lists(st.floats(-1e30, 1e30))),
        (pa.list_(pa.float64()), ValueType.DOUBLE_LIST, st.lists(st.floats(allow_nan=False))),
    ],
    ids=lambda part: str(part) if isinstance(part, pa.DataType) else None,
)  # fmt: skip
def test_bytes_are_feasts(kind: pa.DataType, declared: ValueType, values: Any) -> None:
    @given(st.lists(st.none() | values, max_size=12), st.integers(0, 3))
    def holds(column: list[Any], skipped: int) -> None:
        wanted = by_feast(column, declared)[skipped:]
        arrow = pa.chunked_array([pa.array(column, kind)]).slice(skipped)
        assert pieces(encode_column(arrow, declared)) == wanted

    holds()


def test_a_nan_is_a_null_as_to_feast() -> None:
    column = pa.chunked_array([pa.array(np.array([1.0, np.nan]))])
    assert pieces(encode_column(column, ValueType.DOUBLE)) == by_feast(
        [1.0, float("nan")], ValueType.DOUBLE
    )


def test_dictionaries_and_several_chunks() -> None:
    column = pa.chunked_array([["a", None], ["b", "a"]]).dictionary_encode()
    assert pieces(encode_column(column, ValueType.STRING)) == by_feast(
        ["a", None, "b", "a"], ValueType.STRING
    )


def test_a_number_too_large_for_its_type_is_refused() -> None:
    with pytest.raises(ValueError, match=r"out of bounds|not in range"):
        encode_column(pa.chunked_array([[2**40]]), ValueType.INT32)


@given(st.lists(st.datetimes(timezones=st.just(NOW.tzinfo)), max_size=5))
def test_timestamps_are_feasts(instants: list[Any]) -> None:
    times = [to_epoch_us(instant) for instant in instants]
    found = pieces(encode_timestamps(np.array(times, np.int64)))
    assert found == [encode_timestamp(time) for time in times]


def columnar(folder: Path, valkey: str) -> FeatureStore:
    config = open_with(OURS, folder, valkey).config
    return FeatureStore(config=config.model_copy(update={"provider": PROVIDER}))


# What Feast refuses in a frame, whichever the store: objects of UUIDs (texts are taken),
# instants that Arrow has stripped of their zone, maps that Arrow has made one struct of.
NOT_FROM_FRAMES = {
    "a_zoned_time", "a_uuid", "a_time_uuid", "uuids", "time_uuids", "uuid_set", "time_uuid_set",
    "maps", "a_scalar_map",
}  # fmt: skip


def frame(rows: int = 150) -> pd.DataFrame:
    """Every type, in more rows than a call of the script has."""
    columns: dict[str, Any] = {"customer_id": [f"c{n}" for n in range(rows)]}
    for name, (_, values) in EVERY.items():
        taken = name not in NOT_FROM_FRAMES
        columns[name] = [values[n % len(values)] for n in range(rows)] if taken else None
    columns["event_timestamp"] = [NOW + n * timedelta(microseconds=1) for n in range(rows)]
    return pd.DataFrame(columns)


@pytest.mark.parametrize("name", EVERY)
def test_each_type_with_a_null_is_stored_or_refused_as_by_the_stock_store(
    folder: Path, valkey: str, client: Any, name: str
) -> None:
    values = [*EVERY[name][1], None]
    if name == "an_int64":
        values.remove(2**63 - 1)  # beside a null Feast makes numbers reals; see below
    some = pd.DataFrame(
        {"customer_id": [f"c{n}" for n in range(len(values))], "event_timestamp": NOW}
        | dict.fromkeys(EVERY)
    ).assign(**{name: pd.Series(values, dtype=object)})
    found: list[Any] = []
    for store in (open_with(STOCK, folder, valkey), columnar(folder, valkey)):
        client.flushall()
        try:
            store.write_to_online_store("every", df=some)
            found.append({key: client.hgetall(key) for key in client.scan_iter()})
        except (AssertionError, TypeError, NotImplementedError) as error:
            found.append((type(error), str(error)))
    assert found[0] == found[1]
    assert isinstance(found[0], dict) == (name not in NOT_FROM_FRAMES)


def test_a_whole_number_beside_a_null_stays_whole(folder: Path, valkey: str) -> None:
    """The stock store reads such a column as reals, which lose what is beyond 2**53."""
    rows = {"driver_id": [1, 2], "trip_count": pd.Series([2**53 + 1, None], dtype=object)}
    ours = columnar(folder, valkey)
    ours.write_to_online_store("trips", df=pd.DataFrame(rows | {"event_timestamp": NOW}))
    found = ours.get_online_features(["trips:trip_count"], [{"driver_id": 1}, {"driver_id": 2}])
    assert found.to_dict()["trip_count"] == [2**53 + 1, None]


@pytest.mark.parametrize("at_once", [False, True], ids=["own times", "one time"])
def test_frames_are_stored_as_by_the_stock_store(
    folder: Path, valkey: str, client: Any, at_once: bool
) -> None:
    stock, ours = open_with(STOCK, folder, valkey), columnar(folder, valkey)
    some = frame().assign(event_timestamp=NOW) if at_once else frame()
    some.loc[3, ["a_string", "a_float64", "some_bytes", "float32s"]] = None
    found = []
    for store in (stock, ours):
        client.flushall()
        store.write_to_online_store("every", df=some)
        found.append({key: client.hgetall(key) for key in client.scan_iter()})
    assert len(found[0]) == len(some)
    assert found[0] == found[1]


def test_a_frame_of_numbered_keys_and_one_of_pairs(folder: Path, valkey: str, client: Any) -> None:
    stock, ours = open_with(STOCK, folder, valkey), columnar(folder, valkey)
    trips = pd.DataFrame(
        {"driver_id": [1, -2], "trip_count": [3, 4], "event_timestamp": [NOW, NOW]}
    )
    pairs = trips.rename(columns={"trip_count": "rides"}).assign(customer_id=["a", "b"])
    found = []
    for store in (stock, ours):
        client.flushall()
        store.write_to_online_store("trips", df=trips)
        store.write_to_online_store("pairs", df=pairs)
        found.append({key: client.hgetall(key) for key in client.scan_iter()})
    assert found[0] == found[1]


def test_frames_are_ordered_and_corrected_too(folder: Path, valkey: str) -> None:
    ours = columnar(folder, valkey)

    def put(count: int, at: Any) -> Any:
        rows = {"driver_id": [1], "trip_count": [count], "event_timestamp": [at]}
        asyncio.run(ours.write_to_online_store_async("trips", df=pd.DataFrame(rows)))
        return ours.get_online_features(["trips:trip_count"], [{"driver_id": 1}]).to_dict()

    assert put(1, NOW)["trip_count"] == [1]
    assert put(2, NOW - timedelta(microseconds=1))["trip_count"] == [1]
    assert put(3, NOW)["trip_count"] == [3]


def test_a_missing_column_is_named(folder: Path, valkey: str) -> None:
    rows = pd.DataFrame({"driver_id": [1], "trip_count": [1]})
    with pytest.raises(ValueError, match="Column event_timestamp not found"):
        columnar(folder, valkey).write_to_online_store("trips", df=rows)
