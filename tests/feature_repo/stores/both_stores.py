"""A Feast project over every value type, opened with the stock Redis store and with ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType, types
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import python_values_to_proto_values

from tests.feature_repo.stores.every_type import EVERY

OURS = "feature_repo.stores.online.ValkeyOnlineStore"
STOCK = "redis"
PROJECT = "both"
NOW = datetime.now(UTC).replace(microsecond=654_321)


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
