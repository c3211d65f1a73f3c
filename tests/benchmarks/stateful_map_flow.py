"""`map` + `stateful_map` in Bytewax, with Bytewax's recovery, over `stateful_map.py`."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from sys import intern
from typing import Any

import bytewax.operators as op
import pyarrow as pa
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import run_main

from feature_repo.contracts.events import EVENT_TYPE_CODE
from tests.benchmarks.stateful_map import CUSTOMER_AT, LATENESS_US, Customer, Event, step
from tests.benchmarks.workload import Frames

EPOCH = timedelta(seconds=10)
_BATCH = 1_000  # Python events that the source hands out at once
Raw = tuple[Any, ...]
_COLUMNS = (
    "customer_id", "event_id", "event_time", "event_type", "page", "send_country",
    "receive_country", "amount_ref_minor", "fee_ref_minor", "counterparty_id", "channel", "device",
)  # fmt: skip


def raw_events(batch: pa.RecordBatch) -> Iterator[Raw]:
    """Events as Python tuples of `_COLUMNS`, instants in µs."""
    columns = [
        (batch.column(name).cast(pa.int64()) if name == "event_time" else batch.column(name))
        for name in _COLUMNS
    ]
    return zip(*(column.to_pylist() for column in columns), strict=True)


def event_of(raw: Raw) -> tuple[str, Event]:
    """The `map` step: (customer, what `stateful_map.fold` takes).

    Texts that many events share are one object: states are then smaller, and pickled faster.
    """
    customer, event_id, t, kind, page, send, receive, amount, fee, payee, channel, device = raw
    return customer, (
        event_id,
        t,
        EVENT_TYPE_CODE[kind],
        page and intern(page),
        intern(f"{send}-{receive}") if send is not None and receive is not None else None,
        amount,
        amount + (fee or 0) if amount is not None else None,
        fee,
        payee,
        channel and intern(channel),
        device and intern(device),
        intern(customer),
    )


def _primed_customers(frames: Frames) -> dict[str, Customer]:
    states: dict[str, Customer] = {}
    for batch in frames.batches:
        for raw in raw_events(batch):
            key, event = event_of(raw)
            states[key] = step(states.get(key), event)[0]
    return states


def run_baseline(folder: Path, seconds: float) -> dict[str, float]:
    """`map` + `stateful_map` with Bytewax's recovery."""
    primed = _primed_customers(Frames.open(folder / "primed.arrow"))
    customers = len(primed)
    # So many events as it can possibly take in, each a tuple made beforehand.
    timed = Frames.open(folder / "timed.arrow").first(int(seconds * 80_000))
    batches: list[tuple[int, list[Raw]]] = []
    for partition, batch in zip(timed.partitions, timed.batches, strict=True):
        raw = list(raw_events(batch))
        batches += [(partition, raw[at : at + _BATCH]) for at in range(0, len(raw), _BATCH)]
    gc.collect()
    gc.freeze()  # or every collection would look at all that was made before
    counts = {"read": 0, "late": 0, "rows": 0}
    watermarks: dict[int, int] = {}

    class Partition(StatefulSourcePartition[tuple[int, Raw], int]):
        def __init__(self, at: int) -> None:
            self._at = at
            self._until_s = time.monotonic() + seconds

        def next_batch(self) -> list[tuple[int, Raw]]:
            if self._at == len(batches) or time.monotonic() > self._until_s:
                raise StopIteration
            partition, raw = batches[self._at]
            self._at += 1
            counts["read"] += len(raw)
            return [(partition, event) for event in raw]

        def snapshot(self) -> int:
            return self._at

    class Source(FixedPartitionedSource[tuple[int, Raw], int]):
        def list_parts(self) -> list[str]:
            return ["log"]

        def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> Partition:
            return Partition(resume_state or 0)

    class Discard(StatelessSinkPartition[Any]):
        def write_batch(self, items: list[Any]) -> None:
            counts["rows"] += sum(len(rows) for _, rows in items)

    class Sink(DynamicSink[Any]):
        def build(self, step_id: str, worker_index: int, worker_count: int) -> Discard:
            return Discard()

    def admit(item: tuple[int, Raw]) -> tuple[str, Event] | None:
        partition, raw = item
        t, newest = raw[2], watermarks.get(partition, 0)
        if t <= newest - LATENESS_US:
            counts["late"] += 1
            return None
        if t > newest:
            watermarks[partition] = t
        return event_of(raw)

    flow = Dataflow("stateful_map")
    events = op.input("log", flow, Source())
    keyed = op.filter_map("map", events, admit)

    def features(state: Customer | None, event: Event) -> tuple[Customer, Any]:
        if state is None:  # Bytewax has not seen it yet: it was made before
            state = primed.pop(event[CUSTOMER_AT], None)
        return step(state, event)

    rows = op.stateful_map("features", keyed, features)
    op.output("out", rows, Sink())
    with tempfile.TemporaryDirectory() as recovery:
        init_db_dir(Path(recovery), 1)  # type: ignore[no-untyped-call]
        config = RecoveryConfig(recovery)  # type: ignore[no-untyped-call]
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        run_main(flow, epoch_interval=EPOCH, recovery_config=config)  # type: ignore[no-untyped-call]
        took_s = time.perf_counter() - started_s
        cpu_s = time.process_time() - started_cpu_s
        size = sum(path.stat().st_size for path in Path(recovery).iterdir())
    return {
        "events": counts["read"],
        "seconds": took_s,
        "events_per_s": counts["read"] / took_s,
        "events_per_cpu_s": counts["read"] / cpu_s,
        "rows": counts["rows"],
        "customers": customers,
        "recovery_mb": size / 1e6,
    }
