"""The events that the benchmarks run on: simulated ones, and live ones stamped when they are sent.

Simulated events come repeated and out of order in places, as deliveries do: one in a hundred is
sent twice, and one in a thousand arrives up to ten minutes after its turn. They are the events of
sessions alone: the default features look at no others, and events that nothing looks at would
flatter the figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.contracts.events import EVENT_SCHEMA, OUTSIDE_SESSION, TIMESTAMP
from streaming.log.frames import split_by_shard
from streaming.simulator import load_world, simulate

START = datetime(2025, 6, 2, tzinfo=UTC)
# Of the default world's customers each does about four things a day: with this many times the
# sessions the longest window of the default features (7 days) holds 50 events of each.
SESSIONS = 1.8
EVENTS_A_DAY = 7.08  # of a customer, then; measured
FRAME_ROWS = 20_000
# Where throughput is measured: of a partition of 12,500 customers more stays in the cache than of
# one of 25,000 (the engine is a tenth faster). A live log has 4 unless it is created with more.
SHARDS = 8
_REPEATED = 0.01
_DELAYED = 0.001
_DELAY_US = 600 * 1_000_000
_DAYS_AT_ONCE = 5


def simulated(customers: int, days: float, seed: int, first_day: int = 0) -> Iterator[pa.Table]:
    """Consecutive stretches of one world's events, each in the order of arrival."""
    world = load_world()
    personas = tuple(
        msgspec.structs.replace(each, sessions_per_week=each.sessions_per_week * SESSIONS)
        for each in world.personas
    )
    world = msgspec.structs.replace(world, personas=personas)
    rng = np.random.default_rng(seed)
    began, until = START + timedelta(days=first_day), START + timedelta(days=first_day + days)
    while began < until:
        end = min(began + timedelta(days=_DAYS_AT_ONCE), until)
        found = simulate(world, customers=customers, start=began, end=end, seed=seed)
        yield _delivered(of_sessions(found.events), rng)
        began = end


def of_sessions(events: pa.Table) -> pa.Table:
    """The events of sessions: no balances, calls, reports, labels."""
    outside = pc.is_in(events.column("event_type"), pa.array(sorted(OUTSIDE_SESSION)))
    return events.filter(pc.invert(outside)).combine_chunks()


def _delivered(events: pa.Table, rng: np.random.Generator) -> pa.Table:
    count = len(events)
    arrival = events.column("event_time").cast(pa.int64()).to_numpy().copy()
    slow = rng.random(count) < _DELAYED
    arrival[slow] += rng.integers(0, _DELAY_US, int(slow.sum()))
    again = np.flatnonzero(rng.random(count) < _REPEATED)
    later = arrival[again] + rng.integers(0, _DELAY_US, len(again))
    rows = np.concatenate([np.arange(count), again])
    order = np.argsort(np.concatenate([arrival, later]), kind="stable")
    return events.take(pa.array(rows[order])).combine_chunks()


@dataclass(frozen=True)
class Frames:
    """Frames of the customers' stream, one after the other: partition and events."""

    partitions: list[int]
    batches: list[pa.RecordBatch]

    def __len__(self) -> int:
        return sum(map(len, self.batches))

    def first(self, events: int) -> Frames:
        """The first frames, with at least so many events if there are as many."""
        count = np.searchsorted(np.cumsum([len(batch) for batch in self.batches]), events) + 1
        return Frames(self.partitions[:count], self.batches[:count])

    @classmethod
    def open(cls, path: Path) -> Frames:
        """Map a file of frames into memory."""
        with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as reader:
            batches = [reader.get_batch(at) for at in range(reader.num_record_batches)]
        return cls(
            [int(batch.column("_partition")[0].as_py()) for batch in batches],
            [batch.select(EVENT_SCHEMA.names).cast(EVENT_SCHEMA) for batch in batches],
        )


def write_frames(path: Path, tables: Iterator[pa.Table]) -> int:
    """Split events by customer into frames of about `FRAME_ROWS`; returns how many events."""
    schema = EVENT_SCHEMA.append(pa.field("_partition", pa.int8()))
    events = 0
    with path.open("wb") as file, pa.ipc.new_file(file, schema) as writer:
        for table in tables:
            for stretch in table.to_batches(SHARDS * FRAME_ROWS):
                keys = stretch.column("customer_id")
                for shard, rows in split_by_shard(stretch, keys, SHARDS):
                    number = pa.array(np.full(len(rows), shard, np.int8))
                    writer.write_batch(
                        pa.RecordBatch.from_arrays([*rows.columns, number], schema=schema)
                    )
                events += len(stretch)
    return events


_KINDS = ["page_view", "login", "quote", "payment_submitted", "payment_confirmed", "logout",
          "kyc_step", "add_recipient", "payment_failed"]  # fmt: skip
# As the simulator's, without its sessions.
_SHARES = [0.535, 0.161, 0.147, 0.045, 0.042, 0.03, 0.027, 0.01, 0.003]


class LiveEvents:
    """Events of random customers, made ahead and stamped when they are taken.

    Args:
        customers: how many different ones; `customer-0` and so on.
        seed: of everything but the instants.
        counterparties: how many different payees.
        name: begins every event id.
    """

    def __init__(
        self, customers: int, seed: int, counterparties: int = 50_000, name: str = "e"
    ) -> None:
        self._rng = np.random.default_rng(seed)
        self._name = name
        self._made = 0
        self.customers = _names("customer-", customers)
        self._payees = _names("payee-", counterparties)
        self._pages = _names("page-", 16)
        self._countries = pa.array(["GB", "NG", "KE", "US", "IN", "DE", "PH", "MX"])

    def take(self, times_us: npt.NDArray[np.int64]) -> pa.RecordBatch:
        """The next n events, at (n,) instants, µs since 1970; complete (`EVENT_SCHEMA`)."""
        count, rng = len(times_us), self._rng
        kinds = rng.choice(len(_KINDS), count, p=_SHARES)
        views, pays = kinds == 0, (kinds == 3) | (kinds == 4) | (kinds == 8)
        priced = pays | (kinds == 2)
        amount = rng.integers(100, 10**6, count)
        ids = pc.binary_join_element_wise(
            self._name, pa.array(np.arange(self._made, self._made + count)).cast(pa.string()), ""
        )
        self._made += count

        def some(values: pa.Array, where: Any = None) -> pa.Array:
            at = rng.integers(0, len(values), count)
            return values.take(pa.array(at, mask=None if where is None else ~where))

        def money(values: npt.NDArray[np.int64]) -> pa.Array:
            return pa.array(values, pa.int64(), mask=~priced)

        columns: dict[str, pa.Array] = {
            "event_id": ids,
            "event_time": pa.array(times_us).cast(TIMESTAMP),
            "customer_id": some(self.customers),
            "event_type": pa.array(_KINDS).take(pa.array(kinds)),
            "page": some(self._pages, views),
            "send_country": some(self._countries, priced),
            "receive_country": some(self._countries, priced),
            "amount_minor": money(amount),
            "fee_minor": money(amount // 50),
            "currency": pa.array(np.full(count, "USD"), pa.string(), mask=~priced),
            "amount_ref_minor": money(amount),
            "fee_ref_minor": money(amount // 50),
            "counterparty_id": some(self._payees, pays),
            "channel": some(pa.array(["app", "web"])),
            "device": some(pa.array(["ios", "android", "desktop"])),
            "ip_country": some(self._countries),
        }
        return pa.RecordBatch.from_arrays(
            [columns.get(field.name, pa.nulls(count, field.type)) for field in EVENT_SCHEMA],
            schema=EVENT_SCHEMA,
        )


def _names(prefix: str, count: int) -> pa.Array:
    numbers = pa.array(np.arange(count)).cast(pa.string())
    return pc.binary_join_element_wise(prefix, numbers, "")
