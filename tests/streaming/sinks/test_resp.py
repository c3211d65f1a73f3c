from __future__ import annotations

import pyarrow as pa
import redis

from feature_repo.contracts.features import STREAM_VIEWS, Dtype
from feature_repo.contracts.settings import PROJECT
from feature_repo.engine.evaluate import ROW_SCHEMA
from feature_repo.stores.redis_layout import (
    decode_timestamp,
    decode_value,
    entity_key_encoder,
    field_name,
    timestamp_field,
)
from streaming.sinks.online import OnlineWriter
from streaming.sinks.resp import HsetEncoder
from tests.streaming.made_events import START

SAMPLES: dict[Dtype, list[object]] = {
    Dtype.INT64: [0, 4095, 4096, -7, None, 2**62],
    Dtype.FLOAT64: [0.0, -1.5, 1e300, None, 0.1, 3.0],
    Dtype.STRING: ["GB-NG", "", "ünï", None, "x" * 500, "GB-NG"],
}


def rows_of_everything() -> pa.RecordBatch:
    values: dict[str, list[object]] = {
        "event_id": [None] * 6,
        "customer_id": [f"customer {n} é" for n in range(6)],
        "event_timestamp": [START] * 6,
    }
    for features in STREAM_VIEWS.values():
        for shift, feature in enumerate(features):
            sample = SAMPLES[feature.dtype]
            values[feature.name] = [sample[(n + shift) % 6] for n in range(6)]
    return pa.RecordBatch.from_pydict(values, schema=ROW_SCHEMA)


def test_every_kind_of_value_comes_back_as_it_went_in(valkey: str) -> None:
    host, port = valkey.split(":")
    client = redis.Redis(host=host, port=int(port))
    rows = rows_of_everything()
    writer = OnlineWriter(client)
    writer.write(HsetEncoder().commands(rows))
    writer.close()
    key_of = entity_key_encoder("customer_id", PROJECT)
    for row in rows.to_pylist():
        stored = client.hgetall(key_of(row["customer_id"]))
        for view, features in STREAM_VIEWS.items():
            for feature in features:
                value = decode_value(stored.pop(field_name(view, feature.name)))
                assert value == row[feature.name], feature.name
            stamp = decode_timestamp(stored.pop(timestamp_field(view)))
            assert stamp == int(START.timestamp()) * 1_000_000
        assert stored == {}
    client.close()
