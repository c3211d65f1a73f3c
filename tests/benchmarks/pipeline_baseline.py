"""The other side of the pipeline's benchmark: msgspec, `map` + `stateful_map`, Feast's own writes.

    python -m tests.benchmarks.pipeline_baseline BROKER STORE FOLDER EVENTS

reads so many JSON messages of the customers' topic, and prints one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

os.environ.update(DO_NOT_TRACK="1", FEAST_USAGE="False")  # before Feast is imported

import bytewax.operators as op
import msgspec
import pandas as pd
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import run_main
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64, Int64, String

from feature_repo.contracts.definition import Dtype
from feature_repo.contracts.events import to_epoch_us
from feature_repo.contracts.features import CUSTOMER, FEATURE_SET
from streaming.log.kafka_settings import topic_of
from tests.benchmarks.stateful_map import LATENESS_US, step
from tests.benchmarks.stateful_map_flow import event_of
from tests.benchmarks.workload import SHARDS

EPOCH = timedelta(seconds=10)
BATCH = 1_000


class JsonEvent(msgspec.Struct):
    """A message: the fields that the customer's features use."""

    event_id: str
    event_time: datetime
    customer_id: str
    event_type: str
    page: str | None = None
    send_country: str | None = None
    receive_country: str | None = None
    amount_ref_minor: int | None = None
    fee_ref_minor: int | None = None
    counterparty_id: str | None = None
    channel: str | None = None
    device: str | None = None


def feast_repo(folder: Path, store: str) -> Any:
    """A feature store of Feast's own Redis, with one view of the customer's features."""
    types = {Dtype.INT64: Int64, Dtype.FLOAT64: Float64, Dtype.STRING: String}
    opened = FeatureStore(
        config=RepoConfig(
            project="baseline",
            provider="local",
            registry=str(folder / "registry.db"),
            online_store={"type": "redis", "connection_string": store},
            entity_key_serialization_version=3,
            repo_path=folder,
        )
    )
    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
    view = FeatureView(
        name="customer_features",
        entities=[customer],
        ttl=timedelta(0),
        schema=[
            Field(name=output.name, dtype=types[output.dtype])
            for output in FEATURE_SET.outputs_of(CUSTOMER)
        ],
        source=FileSource(path=str(folder / "none.parquet"), timestamp_field="event_timestamp"),
    )
    opened.apply([customer, view])
    return opened


def baseline_flow(at: str, store: str, home: str, events: int) -> dict[str, float]:
    """`map` + `stateful_map`, and Feast's own writes."""
    feast = feast_repo(Path(home), store)
    names = ["customer_id", "event_timestamp", *(o.name for o in FEATURE_SET.outputs_of(CUSTOMER))]
    decode = msgspec.json.Decoder(JsonEvent).decode
    counts = {"read": 0, "rows": 0, "written": 0}
    watermarks: dict[int, int] = {}
    clock = {"began_s": 0.0, "began_cpu_s": 0.0}

    class Partition(StatefulSourcePartition[tuple[int, bytes], int]):
        def __init__(self) -> None:
            self._consumer = Consumer({"bootstrap.servers": at, "group.id": "baseline"})
            topic = topic_of(CUSTOMER.name)
            self._consumer.assign(
                [TopicPartition(topic, shard, OFFSET_BEGINNING) for shard in range(SHARDS)]
            )

        def next_batch(self) -> list[tuple[int, bytes]]:
            if counts["read"] == events:
                raise StopIteration
            messages = self._consumer.consume(BATCH, 0.1)
            if messages and not counts["read"]:
                clock.update(began_s=time.perf_counter(), began_cpu_s=time.process_time())
            counts["read"] += len(messages)
            return [(message.partition() or 0, message.value() or b"") for message in messages]

        def snapshot(self) -> int:
            return counts["read"]

        def close(self) -> None:
            self._consumer.close()

    class Source(FixedPartitionedSource[tuple[int, bytes], int]):
        def list_parts(self) -> list[str]:
            return ["log"]

        def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> Partition:
            return Partition()

    def parse(message: tuple[int, bytes]) -> tuple[str, Any] | None:
        partition, raw = message
        event = decode(raw)
        t = to_epoch_us(event.event_time)
        newest = watermarks.get(partition, 0)
        if t <= newest - LATENESS_US:
            return None
        watermarks[partition] = max(t, newest)
        return event_of(
            (
                event.customer_id, event.event_id, t, event.event_type, event.page,
                event.send_country, event.receive_country, event.amount_ref_minor,
                event.fee_ref_minor, event.counterparty_id, event.channel, event.device,
            )
        )  # fmt: skip

    class Writer(StatelessSinkPartition[Any]):
        def __init__(self) -> None:
            self._rows: list[tuple[Any, ...]] = []

        def write_batch(self, items: list[Any]) -> None:
            for customer, (t, rows) in items:
                self._rows += [(customer, t, *row) for row in rows]
            while len(self._rows) >= BATCH:
                self._write(self._rows[:BATCH])
                del self._rows[:BATCH]

        def close(self) -> None:
            self._write(self._rows)

        def _write(self, rows: list[tuple[Any, ...]]) -> None:
            counts["rows"] += len(rows)
            frame = pd.DataFrame(rows, columns=names).drop_duplicates("customer_id", keep="last")
            frame["event_timestamp"] = pd.to_datetime(frame["event_timestamp"], unit="us", utc=True)
            counts["written"] += len(frame)
            feast.write_to_online_store("customer_features", df=frame)

    class Sink(DynamicSink[Any]):
        def build(self, step_id: str, worker_index: int, worker_count: int) -> Writer:
            return Writer()

    def features(state: Any, event: Any) -> tuple[Any, Any]:
        state, rows = step(state, event)
        return state, (state.newest, rows)

    flow = Dataflow("stateful_map")
    parsed = op.filter_map("map", op.input("log", flow, Source()), parse)
    op.output("feast", op.stateful_map("features", parsed, features), Sink())
    recovery = Path(home) / "recovery"
    recovery.mkdir()
    init_db_dir(recovery, 1)  # type: ignore[no-untyped-call]
    config = RecoveryConfig(str(recovery))  # type: ignore[no-untyped-call]
    run_main(flow, epoch_interval=EPOCH, recovery_config=config)  # type: ignore[no-untyped-call]
    took_s = time.perf_counter() - clock["began_s"]
    return {
        "events": counts["read"],
        "seconds": took_s,
        "events_per_s": counts["read"] / took_s,
        "events_per_cpu_s": counts["read"] / (time.process_time() - clock["began_cpu_s"]),
        "rows": counts["rows"],
        "written": counts["written"],
    }


if __name__ == "__main__":
    broker, address, folder, count = sys.argv[1:]
    print(json.dumps(baseline_flow(broker, address, folder, int(count))))
