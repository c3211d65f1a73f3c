"""What the serving benchmark serves: applied features, a registered model, customers in the store.

The default model's inputs are those of the session-duration model (8 features of the session, 31
of windows, 13 batch ones of customer and corridor) and an embedding of 64 floats: 116 columns,
200 trees of 31 leaves. Each of the customers has some 25 events of the last week; half of them are
in a session now, on the way to a corridor.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pyarrow as pa
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.data_format import ParquetFormat
from feast.types import Array, Float32

from feature_repo.contracts.definition import Dtype
from feature_repo.contracts.feature_set import EntityKey
from feature_repo.contracts.features import CORRIDOR, CUSTOMER, FEATURE_SET
from feature_repo.contracts.model_files import GOLDEN_FILE, Golden
from feature_repo.contracts.model_inputs import ModelInputs
from feature_repo.contracts.settings import PROJECT, Settings
from feature_repo.contracts.target_scale import BACK_TRANSFORMS
from feature_repo.engine.program import compile_program
from feature_repo.engine.projection import project
from feature_repo.engine.shard import Shard
from feature_repo.stores import redis_layout as layout
from feature_repo.stores.feast_store import open_store
from feature_repo.stores.redis_connection import connect
from streaming.sinks.online import OnlineWriter
from tests.applied import apply_definitions
from tests.benchmarks.workload import LiveEvents

MODEL = "default_model"
EMBEDDING = "customer_embedding"
EMBEDDING_LENGTH = 64
TREES, LEAVES = 200, 31
GOLDEN_ROWS = 32
CUSTOMERS = 20_000
EVENTS_EACH = 25
_WEEK_US = timedelta(days=7) // timedelta(microseconds=1)
_SESSION_US = timedelta(minutes=20) // timedelta(microseconds=1)
_CATEGORIES = {
    "session_corridor_last": [f"{a}-{b}" for a in ("GB", "US", "DE") for b in ("NG", "KE", "IN")],
    "session_channel_last": ["app", "web"],
    "session_device_last": ["android", "desktop", "ios"],
    "age_band": ["18-24", "25-34", "35-44", "45-54", "55+"],
}
_CORRIDORS = ["GB", "NG", "KE", "US", "IN", "DE", "PH", "MX"]


@dataclass(frozen=True)
class World:
    """Where everything is.

    Attributes:
        settings: home, store and MLflow.
        customers: their ids.
        refs: the features that the model takes.
    """

    settings: Settings
    customers: list[str]
    refs: tuple[str, ...]


def make_world(settings: Settings, customers: int = CUSTOMERS, seed: int = 1) -> World:
    """Apply, register and fill; half a minute."""
    refs = _apply(settings)
    names = _fill_stream(settings, customers, seed)
    _fill_batch(settings, names, seed)
    register(settings, seed)
    return World(settings, names, refs)


def _apply(settings: Settings) -> tuple[str, ...]:
    apply_definitions(settings)
    store = open_store(settings)
    own = FeatureView(
        name=EMBEDDING,
        entities=[Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)],
        ttl=timedelta(days=30),
        schema=[Field(name="embedding", dtype=Array(Float32), vector_length=EMBEDDING_LENGTH)],
        source=FileSource(
            name=f"{EMBEDDING}_daily",
            path=str(settings.batch_table(EMBEDDING)),
            file_format=ParquetFormat(),
            timestamp_field="event_timestamp",
        ),
        online=True,
    )
    session = store.get_feature_service("session_duration")
    wanted = {
        view.name: [field.name for field in view.features]
        for view in session.feature_view_projections
    }
    views = {view.name: view for view in store.list_feature_views()}
    views |= {view.name: view for view in store.list_on_demand_feature_views()}
    service = FeatureService(
        name=MODEL,
        features=[*(views[name][fields] for name, fields in wanted.items()), own],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store.apply([own, service])
    refs = [f"{name}:{field}" for name, fields in wanted.items() for field in fields]
    return (*refs, f"{EMBEDDING}:embedding")


def events_of(customers: int, seed: int) -> pa.RecordBatch:
    """A week's events of everyone; every other one's latest are of the last minutes."""
    made = LiveEvents(customers, seed)
    now_us = time.time_ns() // 1000 - 5_000_000
    week = np.linspace(now_us - _WEEK_US, now_us - 2 * _SESSION_US, customers * (EVENTS_EACH - 5))
    recent = np.linspace(now_us - _SESSION_US, now_us, customers * 5)
    first = made.take(week.astype(np.int64))
    last = made.take(recent.astype(np.int64))
    lively = pa.array(
        [name.as_py().endswith(("0", "2", "4", "6", "8")) for name in last["customer_id"]]
    )
    return pa.concat_batches([first, last.filter(lively)])


def _fill_stream(settings: Settings, customers: int, seed: int) -> list[str]:
    events = events_of(customers, seed)
    writer = OnlineWriter(connect(settings.redis))
    names: list[str] = []
    for entity in FEATURE_SET.entities:
        folded = fold(entity, events)
        if entity.name == CUSTOMER.name:
            names = folded.keys.to_pylist()
        writer.write(entity, 1, 1, folded.keys, folded.states, folded.times_us)
    writer.mark()()
    writer.close()
    return sorted(names)


def fold(entity: EntityKey, events: pa.RecordBatch) -> Any:
    """What the events leave of each key of an entity."""
    program = compile_program(FEATURE_SET, entity)
    return Shard(program).fold(project(program, events), rows=False)


def _fill_batch(settings: Settings, customers: Sequence[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    store = open_store(settings)
    views = {view.name: view for view in store.list_feature_views()}
    with connect(settings.redis) as client:
        for name in ("customer_profile", "customer_financials", EMBEDDING):
            _put(client, views[name], CUSTOMER.join_key, customers, rng)
        pairs = [f"{a}-{b}" for a in _CORRIDORS for b in _CORRIDORS]
        _put(client, views["corridor_costs"], CORRIDOR.join_key, pairs, rng)


def _put(
    client: Any, view: Any, join_key: str, keys: Sequence[str], rng: np.random.Generator
) -> None:
    key_of = layout.entity_key_encoder(join_key, PROJECT)
    stamp = layout.encode_timestamp(time.time_ns() // 1000 - 3_600_000_000)
    pipe = client.pipeline(transaction=False)
    for number, key in enumerate(keys):
        row: dict[bytes, bytes] = {layout.timestamp_field(view.name): stamp}
        for field in view.features:
            row[layout.field_name(view.name, field.name)] = _value(field, rng)
        pipe.hset(key_of(key), mapping=row)
        if number % 1000 == 999:
            pipe.execute()
    pipe.execute()


def _value(field: Any, rng: np.random.Generator) -> bytes:
    dtype = str(field.dtype)
    if dtype == "Array(Float32)":
        packed = rng.normal(size=EMBEDDING_LENGTH).astype("<f4").tobytes()
        inner = b"\x0a" + _varint(len(packed)) + packed
        return b"\x82\x01" + _varint(len(inner)) + inner
    if dtype == "String":
        texts = _CATEGORIES.get(field.name, ["GB", "US"])
        return layout.encode_string(texts[int(rng.integers(len(texts)))])
    if dtype == "Int64":
        return layout.ENCODERS[Dtype.INT64](int(rng.integers(0, 100_000)))
    return layout.ENCODERS[Dtype.FLOAT64](float(rng.random() * 10))


def _varint(value: int) -> bytes:
    return bytes([value & 0x7F | 0x80, value >> 7]) if value > 0x7F else bytes([value])


def inputs_of(settings: Settings) -> ModelInputs:
    """The model's inputs, with the categories and the length that training would have learnt."""
    from serving.catalog import load_catalog

    offered = load_catalog(settings).service_inputs(MODEL)
    return ModelInputs(
        MODEL,
        tuple(
            type(item)(
                item.view,
                item.feature,
                item.dtype,
                tuple(_CATEGORIES.get(item.feature, ())),
                EMBEDDING_LENGTH if item.is_array else 0,
            )
            for item in offered.inputs
        ),
    )


def register(settings: Settings, seed: int) -> str:
    """Register a model as training does, and make it the champion; its version."""
    from mlflow import MlflowClient

    inputs = inputs_of(settings)
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(20_000, inputs.width)) * 10 ** rng.uniform(0, 4, inputs.width)
    weights = rng.normal(size=inputs.width) / rows.std(axis=0)
    target = np.log1p(np.abs(rows @ weights)) + rng.normal(size=len(rows)) * 0.1
    options = {"objective": "regression", "num_leaves": LEAVES, "verbosity": -1, "num_threads": 1}
    booster = lightgbm.train(options, lightgbm.Dataset(rows, target), TREES)
    client = MlflowClient(settings.mlflow_url, settings.mlflow_url)
    if not any(model.name == MODEL for model in client.search_registered_models()):
        client.create_registered_model(MODEL)
    folder = Path(settings.home) / f"model-{seed}"
    folder.mkdir()
    (folder / "MLmodel").write_text(json.dumps({"flavors": {"lightgbm": {"data": "model.lgb"}}}))
    (folder / "model.lgb").write_text(booster.model_to_string())
    (folder / "model_inputs.json").write_bytes(inputs.to_json())
    examples = rows[:GOLDEN_ROWS]
    scores = np.asarray(booster.predict(examples, num_threads=1))
    golden = Golden.of(examples, scores, BACK_TRANSFORMS["log1p"](scores), None)
    (folder / GOLDEN_FILE).write_bytes(golden.to_json())
    version = client.create_model_version(
        MODEL,
        source=folder.as_uri(),
        tags={
            "feature_service": MODEL,
            "features": json.dumps([item.ref for item in inputs.inputs]),
            "schema_fingerprint": inputs.fingerprint,
            "target": "session_duration_s",
            "target_transform": "log1p",
            "unit": "s",
            "metric_name": "rmse",
            "metric_value": "1.5",
        },
    )
    client.set_registered_model_alias(MODEL, "champion", version.version)
    return str(version.version)
