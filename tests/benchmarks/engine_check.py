"""Whether the sides of the engine's benchmark compute the same, and what the state takes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.engine.hashing import hash64
from feature_repo.engine.shard import Shard
from tests.benchmarks.engine_dataflow import customer_program, primed_shards
from tests.benchmarks.plain_numba import PlainNumba
from tests.benchmarks.stateful_map import Customer, Event, Row, step
from tests.benchmarks.stateful_map_flow import event_of, raw_events
from tests.benchmarks.workload import SHARDS, Frames

_SAMPLED_EVENTS = 100_000
_COMPARED_EVENTS = 1_500_000


def measure_state(folder: Path) -> dict[str, float]:
    """Memory of the engine's state, and bytes of the online values, once primed."""
    frames = Frames.open(folder / "primed.arrow")
    shards = primed_shards(frames)
    customers = sum(shard.keys for shard in shards)
    online = 0
    for partition, shard in enumerate(shards):
        keys = [
            batch.column("customer_id").unique()
            for owner, batch in zip(frames.partitions, frames.batches, strict=True)
            if owner == partition
        ]
        if keys:
            states, _ = shard.states_of(pa.concat_arrays(keys).unique())
            online += states.nbytes
    return {
        "customers": customers,
        "events_each": len(frames) / customers,
        "bytes_per_customer": sum(shard.nbytes for shard in shards) / customers,
        "online_bytes_per_customer": online / customers,
    }


def _rows_by_id(state: Customer, event: Event, rows: Any) -> dict[str, Row]:
    """By event id, the rows that `step` has just given."""
    if len(rows) < 2:
        return {event[0]: rows[0]} if rows else {}
    kept = [*state.tail, *state.d7, *state.d24, *state.d1h, *state.d5]
    return dict(zip((each[0] for each in kept[-len(rows) :]), rows, strict=True))


def compare(folder: Path) -> int:
    """Rows of a sample of customers by all three ways; how many there are.

    Raises:
        ValueError: two of them differ.
    """
    parts = [Frames.open(folder / f"{name}.arrow") for name in ("primed", "timed")]
    parts = [frames.first(_COMPARED_EVENTS) for frames in parts]
    partitions = [partition for frames in parts for partition in frames.partitions]
    batches = [batch for frames in parts for batch in frames.batches]
    names = pc.unique(pa.concat_arrays([batch.column("customer_id") for batch in batches]))
    every = max(1, sum(map(len, batches)) // _SAMPLED_EVENTS)
    sample = names.take(pa.array(np.arange(0, len(names), every)))
    batches = [batch.filter(pc.is_in(batch.column("customer_id"), sample)) for batch in batches]
    program = customer_program()
    shards = [Shard(program) for _ in range(SHARDS)]
    plain = PlainNumba(np.concatenate([hash64(batch.column("customer_id")) for batch in batches]))
    states: dict[str, Customer] = {}
    ours: dict[str, tuple[Any, ...]] = {}
    theirs: dict[str, tuple[Any, ...]] = {}
    plain_sum, our_sum = np.zeros(2), np.zeros(2)
    outputs = [output.name for output in program.outputs]
    for partition, batch in zip(partitions, batches, strict=True):
        rows = shards[partition].fold(batch, states=False).rows
        columns = [rows.column(name).to_pylist() for name in outputs]
        ids = rows.column("event_id").to_pylist()
        ours.update(zip(ids, zip(*columns, strict=True), strict=True))
        our_sum += [len(rows), sum(columns[outputs.index("event_count_7d")])]
        integers, _ = plain.fold(batch)
        plain_sum += [len(integers), integers[:, 32].sum()]
        for raw in raw_events(batch):
            key, event = event_of(raw)
            states[key], found = step(states.get(key), event)
            theirs.update(_rows_by_id(states[key], event, found))
    if ours.keys() != theirs.keys() or (plain_sum != our_sum).any():
        raise ValueError(f"rows differ: {len(ours)} and {len(theirs)}; {our_sum} and {plain_sum}")
    for event_id, row in ours.items():
        for name, mine, other in zip(outputs, row, theirs[event_id], strict=True):
            if mine != other and not math.isclose(mine or 0, other or 0, rel_tol=1e-9):
                raise ValueError(f"{name} of {event_id}: {mine} and {other}")
    return len(ours)
