"""What the online store's benchmark reads and writes: 25 features in 3 views of 10,000 customers.

Twelve numbers and texts, twelve reals, and an embedding of 64 floats, in one Feast project that
both stores open.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import FloatList, Value
from feast.types import Array, Float32, Float64, Int64, String

from feature_repo.contracts.features import FEATURE_SET
from feature_repo.contracts.model_inputs import ModelInput, ModelInputs
from feature_repo.contracts.settings import Settings
from feature_repo.stores.feast_store import open_store
from feature_repo.stores.redis_layout import entity_key_encoder
from serving.catalog import catalog_of
from serving.read_plan import ReadPlan, plan_read
from serving.settings import ServingSettings
from serving.store_connection import StoreConnection
from serving.vectors import Keys, VectorReader, warm_kernels
from tests.applied import apply_definitions

CUSTOMERS = 10_000
EMBEDDING_LENGTH = 64
_VIEWS: dict[str, dict[str, Any]] = {
    "bench_profile": {f"number_{n}": Int64 for n in range(6)}
    | {f"text_{n}": String for n in range(6)},
    "bench_amounts": {f"real_{n}": Float64 for n in range(12)},
    "bench_embedding": {"embedding": Array(Float32)},
}
REFS = [f"{view}:{name}" for view, fields in _VIEWS.items() for name in fields]
_TEXTS = [f"text value {n}" for n in range(20)]
Rows = list[tuple[Any, dict[str, Any], datetime, None]]


@dataclass
class World:
    """Both ways into one store, and what is written.

    Attributes:
        stock: Feast with its own Redis store.
        ours: Feast with ours, and our provider.
        customers: ids.
        frames: view -> everybody's rows, without event times.
        rows: view -> the same as protobufs.
    """

    stock: FeatureStore
    ours: FeatureStore
    settings: Settings
    customers: list[str]
    frames: dict[str, pd.DataFrame]
    rows: dict[str, Rows]

    def entity_rows(self, number: int, count: int) -> list[dict[str, str]]:
        """The `number`-th request's rows: other customers each time."""
        start, size = number * count, len(self.customers)
        return [{"customer_id": self.customers[(start + at) % size]} for at in range(count)]


def make_world(settings: Settings, customers: int, seed: int = 1) -> World:
    """Apply the views and write everybody's features, by the stock store."""
    warnings.filterwarnings("ignore")
    apply_definitions(settings)
    ours = open_store(settings)
    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
    source = FileSource(path=str(settings.home / "none.parquet"), timestamp_field="event_timestamp")
    ours.apply(
        [
            FeatureView(
                name=view,
                entities=[customer],
                ttl=timedelta(days=30),
                schema=[Field(name=name, dtype=dtype) for name, dtype in fields.items()],
                source=source,
            )
            for view, fields in _VIEWS.items()
        ]
    )
    plain = {"type": "redis", "connection_string": settings.redis}
    config = ours.config.model_copy(update={"provider": "local"})
    # As Feast's own constructor would have it: the stock store and provider, the same registry.
    stock = FeatureStore(config=type(config)(**_raw(config) | {"online_store": plain}))
    names = [f"customer-{n:06d}" for n in range(customers)]
    rng = np.random.default_rng(seed)
    frames = {view: _frame(fields, names, rng) for view, fields in _VIEWS.items()}
    moment = datetime.now(UTC) - timedelta(hours=1)
    for view, frame in frames.items():
        stock.write_to_online_store(view, df=frame.assign(event_timestamp=moment))
    rows = {view: _rows(frame, _VIEWS[view], moment) for view, frame in frames.items()}
    return World(stock, ours, settings, names, frames, rows)


def _raw(config: Any) -> dict[str, Any]:
    return {
        "project": config.project,
        "provider": "local",
        "registry": {"path": config.registry.path, "cache_ttl_seconds": 3_600},
        "offline_store": {"type": "duckdb"},
        "entity_key_serialization_version": 3,
        "repo_path": config.repo_path,
    }


def _frame(fields: dict[str, Any], names: list[str], rng: np.random.Generator) -> pd.DataFrame:
    columns: dict[str, Any] = {"customer_id": names}
    count = len(names)
    for name, dtype in fields.items():
        if dtype == Int64:
            columns[name] = rng.integers(0, 1_000_000, count)
        elif dtype == String:
            columns[name] = [_TEXTS[at] for at in rng.integers(0, len(_TEXTS), count)]
        elif dtype == Float64:
            columns[name] = rng.normal(size=count)
        else:
            columns[name] = list(rng.normal(size=(count, EMBEDDING_LENGTH)).astype(np.float32))
    return pd.DataFrame(columns)


def _rows(frame: pd.DataFrame, fields: dict[str, Any], moment: datetime) -> Rows:
    def value(raw: Any, dtype: Any) -> Any:
        if dtype == Int64:
            return Value(int64_val=int(raw))
        if dtype == String:
            return Value(string_val=raw)
        if dtype == Float64:
            return Value(double_val=float(raw))
        return Value(float_list_val=FloatList(val=raw.tolist()))

    return [
        (
            EntityKey(
                join_keys=["customer_id"], entity_values=[Value(string_val=record["customer_id"])]
            ),
            {name: value(record[name], dtype) for name, dtype in fields.items()},
            moment,
            None,
        )
        for record in frame.to_dict("records")
    ]


@dataclass(frozen=True)
class Unscored:
    """A model version that reads its inputs and gives every row the same score."""

    plan: ReadPlan
    inputs: ModelInputs
    name: str = "unscored"
    version: str = "1"

    def score(self, matrix: npt.NDArray[np.float64]) -> tuple[Any, Any, None]:
        """Nothing is computed."""
        nothing = np.zeros(len(matrix))
        return nothing, nothing, None


def serving_reader(world: World) -> VectorReader:
    """Serving's own reader of the same features; from within an event loop."""
    catalog = catalog_of(world.ours, FEATURE_SET)
    inputs = [
        ModelInput(
            view,
            name,
            str(dtype),
            tuple(_TEXTS) if dtype == String else (),
            EMBEDDING_LENGTH if name == "embedding" else 0,
        )
        for view, fields in _VIEWS.items()
        for name, dtype in fields.items()
    ]
    served: Any = Unscored(plan_read(catalog, REFS), ModelInputs("bench", tuple(inputs)))
    key = entity_key_encoder("customer_id", catalog.project)
    warm_kernels()
    connection = StoreConnection(ServingSettings(world.settings))
    return VectorReader(served, connection, Keys(key, key, key), lambda: datetime.now(UTC))


def next_moment() -> datetime:
    """An event time later than all before it."""
    return datetime.fromtimestamp(time.time_ns() // 1_000 / 1e6, UTC)
