"""A Feast project over every value type, opened with the stock Redis store and with ours."""

from __future__ import annotations

import decimal
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType, types
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import python_values_to_proto_values

OURS = "feature_repo.stores.online.ValkeyOnlineStore"
STOCK = "redis"
PROJECT = "both"
NOW = datetime.now(UTC).replace(microsecond=654_321)
_DAY = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)

# Feature -> (type, values that have bitten: signs, extremes, zero, empty, long).
SCALARS: dict[str, tuple[Any, list[Any]]] = {
    "an_int32": (types.Int32, [0, -1, 2**31 - 1, -(2**31)]),
    "an_int64": (types.Int64, [0, -1, 4096, 2**63 - 1, -(2**63)]),
    "a_float32": (types.Float32, [0.0, -0.5, 3.4028234663852886e38]),
    "a_float64": (types.Float64, [0.0, -273.15, 5e-324, 1.7976931348623157e308, float("inf")]),
    "a_string": (types.String, ["", "GB-NG", "größe €漢字🙂 \x00", "x" * 127, "y" * 70_000]),
    "some_bytes": (types.Bytes, [b"", b"\x00\xff\n", b"b" * 300]),
    "a_bool": (types.Bool, [True, False]),
    "a_time": (types.UnixTimestamp, [_DAY, datetime(1969, 7, 20, tzinfo=UTC)]),
    "a_json": (types.Json, ['{"a": [1, null]}']),
    "a_uuid": (types.Uuid, [uuid.UUID(int=7)]),
    "a_decimal": (types.Decimal, [decimal.Decimal("-12.340")]),
}  # fmt: skip
LISTS: dict[str, tuple[Any, list[Any]]] = {
    "int32s": (types.Array(types.Int32), [[1, -2, 3], [2**31 - 1]]),
    "int64s": (types.Array(types.Int64), [[1, -2, 2**62], [-(2**63)]]),
    "float32s": (types.Array(types.Float32), [[0.5] * 64, [0.25]]),
    "float64s": (types.Array(types.Float64), [[0.1, -1e300], [2.0] * 40]),
    "strings": (types.Array(types.String), [["a", "", "€"], ["x" * 200]]),
    "bytestrings": (types.Array(types.Bytes), [[b"\x00", b"", b"\xff"]]),
    "bools": (types.Array(types.Bool), [[True, False, True]]),
    "times": (types.Array(types.UnixTimestamp), [[_DAY, _DAY + timedelta(days=1)]]),
    "int64_set": (types.Set(types.Int64), [{1, 2, 3}]),
    "string_set": (types.Set(types.String), [{"a", "b"}]),
    "a_map": (types.Map, [{"a": "1", "b": "x"}]),
}
EVERY = SCALARS | LISTS


def project(folder: Path) -> list[Any]:
    """Entities and views: every type by customer, a few by driver number and by pair."""
    source = FileSource(path=str(folder / "none.parquet"), timestamp_field="event_timestamp")
    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)

    def view(name: str, of: Sequence[Entity], fields: Mapping[str, Any], ttl: timedelta) -> Any:
        keys = {"customer_id": types.String, "driver_id": types.Int64}
        return FeatureView(
            name=name,
            entities=list(of),
            ttl=ttl,
            schema=[
                *(Field(name=e.join_key, dtype=keys[e.join_key]) for e in of),
                *(Field(name=field, dtype=dtype) for field, dtype in fields.items()),
            ],
            source=source,
        )

    every = {name: dtype for name, (dtype, _) in EVERY.items()}
    return [
        customer,
        driver,
        view("every", [customer], every, timedelta(0)),
        view("brief", [customer], {"brief_int": types.Int64}, timedelta(hours=1)),
        view("trips", [driver], {"trip_count": types.Int64}, timedelta(0)),
        view("pairs", [customer, driver], {"rides": types.Int64}, timedelta(0)),
    ]


def open_with(kind: str, folder: Path, address: str, **online: Any) -> FeatureStore:
    """The project's store of one kind."""
    return FeatureStore(
        config=RepoConfig(
            project=PROJECT,
            registry={"path": str(folder / "registry.db"), "cache_ttl_seconds": 600},
            provider="local",
            online_store={"type": kind, "connection_string": address} | online,
            offline_store={"type": "duckdb"},
            entity_key_serialization_version=3,
        )
    )


def entity_key(**values: str | int) -> Any:
    """An entity key in Feast's own terms."""
    protos = [
        Value(string_val=value) if isinstance(value, str) else Value(int64_val=value)
        for value in values.values()
    ]
    return EntityKey(join_keys=list(values), entity_values=protos)


def encoded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Feature -> its protobuf, made by Feast; a null where the value is None."""
    found = {}
    for name, value in values.items():
        kind = EVERY[name][0].to_value_type() if name in EVERY else ValueType.INT64
        found[name] = Value() if value is None else python_values_to_proto_values([value], kind)[0]
    return found


def write(
    store: FeatureStore,
    view: str,
    rows: Sequence[tuple[Any, Mapping[str, Any]]],
    at: datetime = NOW,
    created: datetime | None = None,
) -> None:
    """Write rows through Feast's provider, as `materialize` and `push` do."""
    store._get_provider().online_write_batch(
        store.config,
        store.get_feature_view(view),
        [(key, encoded(values), at, created) for key, values in rows],
        None,
    )


def statuses(response: Any) -> dict[str, list[str]]:
    """Feature -> the statuses of its rows, by name."""
    from feast.protos.feast.serving.ServingService_pb2 import FieldStatus

    names = response.proto.metadata.feature_names.val
    return {
        name: [FieldStatus.Name(status) for status in column.statuses]
        for name, column in zip(names, response.proto.results, strict=True)
    }
