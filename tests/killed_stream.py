"""A live stream as a process that a test starts and kills, its events, and a reader beside it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import redis

from feature_repo.contracts.events import EVENT_SCHEMA, TIMESTAMP, to_epoch_us
from feature_repo.contracts.features import FEATURE_SET
from feature_repo.contracts.money import ExchangeRates
from feature_repo.contracts.settings import ROOT, Settings
from feature_repo.stores.redis_connection import connect
from feature_repo.stores.redis_layout import decode_timestamp
from streaming.log.valkey_layout import offset_of, stream_name

SHARDS = 4
EPOCH_S = 0.5
_REPEATED = 0.01
_JITTER = timedelta(minutes=10)
_SPAN = timedelta(hours=12)
_FENCE_FIELD = b"_fence:"


def made_events(count: int, keys: int, seed: int, end: datetime) -> pa.RecordBatch:
    """Events of three entities up to `end`: out of order by minutes, one in a hundred repeated."""
    rng = np.random.default_rng(seed)
    ordered = np.linspace(to_epoch_us(end - _SPAN), to_epoch_us(end - _JITTER), count)
    times = ordered.astype(np.int64) + rng.integers(0, _JITTER // timedelta(microseconds=1), count)
    pays = rng.random(count) < 0.4

    def texts(prefix: str, numbers: Any, where: Any = None) -> pa.Array:
        named = np.char.add(prefix, np.asarray(numbers).astype(str))
        return pa.array(named, pa.string(), mask=None if where is None else ~where)

    countries = np.array(["GB", "NG", "KE", "US", "IN", "DE"])
    columns: dict[str, Any] = {
        "event_id": texts("e", np.arange(count)),
        "event_time": pa.array(times, pa.int64()).cast(TIMESTAMP),
        "customer_id": texts("c", rng.integers(0, keys, count)),
        "event_type": pa.array(np.where(pays, "payment_submitted", "page_view"), pa.string()),
        "page": texts("page_", rng.integers(0, 9, count), ~pays),
        "send_country": pa.array(rng.choice(countries, count), pa.string(), mask=~pays),
        "receive_country": pa.array(rng.choice(countries, count), pa.string(), mask=~pays),
        "amount_minor": pa.array(rng.integers(1, 10**6, count), pa.int64(), mask=~pays),
        "fee_minor": pa.array(rng.integers(0, 999, count), pa.int64(), mask=~pays),
        "currency": pa.array(np.full(count, "GBP"), pa.string(), mask=~pays),
        "counterparty_id": texts("p", rng.integers(0, keys, count), pays),
        "channel": pa.array(rng.choice(["app", "web"], count), pa.string()),
    }
    batch = pa.RecordBatch.from_arrays(
        [columns.get(f.name, pa.nulls(count, f.type)) for f in EVENT_SCHEMA], schema=EVENT_SCHEMA
    )
    order = np.arange(count)
    again = np.flatnonzero(rng.random(count) < _REPEATED)
    order = np.insert(order, np.minimum(again + rng.integers(1, 100, len(again)), count), again)
    return ExchangeRates().with_reference_amounts(batch.take(pa.array(order)))


class Stream:
    """`python -m streaming` over one server, in a home of its own."""

    def __init__(self, home: Path, port: int, rebase_events: int) -> None:
        self._rebase_events = rebase_events
        self.settings = Settings.from_env(
            {"DAIMA_HOME": str(home), "DAIMA_REDIS": f"127.0.0.1:{port}"}
        )
        self.client = connect(self.settings.redis)
        self._log = home.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start a process; its output is appended to a file beside its home."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "streaming",
                    "--epoch-s",
                    str(EPOCH_S),
                    "--rebase-events",
                    str(self._rebase_events),
                ],
                env={**os.environ, **self.settings.environment()},
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def end(self, number: int) -> int:
        """Send a signal; the exit code."""
        process = self._running()
        process.send_signal(number)
        return process.wait(60)

    def check(self) -> None:
        """Raise RuntimeError if the process has ended by itself."""
        self._running()

    def kill(self) -> None:
        """Make sure that nothing is left running."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def wait_for_all(self, seconds: float) -> None:
        """Return once a checkpoint holds everything in the log."""
        deadline_s = time.monotonic() + seconds
        while not all(self._has_all(entity.name) for entity in FEATURE_SET.entities):
            self._running()
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"not all events in {seconds:g} s\n{self._log.read_text()}")
            time.sleep(0.05)

    def checkpoint(self) -> tuple[int | None, str | None]:
        """Of the first partition: the offset it has reached, and the file of its last base."""
        manifest = self._manifest(FEATURE_SET.entities[0].name, 0)
        return (manifest["offset"], manifest["chain"][-1]["base"]) if manifest else (None, None)

    def values(self) -> dict[bytes, dict[bytes, bytes]]:
        """Every entity's hash, without the fences: offsets are times of arrival."""
        keys = self.entity_keys()
        with self.client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.hgetall(key)
            found: list[dict[bytes, bytes]] = pipeline.execute()
        return {
            key: {n: v for n, v in fields.items() if not n.startswith(_FENCE_FIELD)}
            for key, fields in zip(keys, found, strict=True)
        }

    def entity_keys(self) -> list[bytes]:
        """Keys of the online store, those of the log and of the generation left out."""
        return sorted(
            key
            for key in self.client.scan_iter(count=10_000)
            if not key.startswith(b"daima:") and self.client.type(key) == b"hash"
        )

    def archive(self) -> pl.DataFrame:
        """The archived events, in an order of their own."""
        files = [str(path) for path in self.settings.events_table.rglob("*.parquet")]
        frame = pl.read_parquet(files, hive_partitioning=False)
        return frame.sort(frame.columns)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"the stream has ended\n{self._log.read_text()}")
        return self._process

    def _has_all(self, entity: str) -> bool:
        for shard in range(SHARDS):
            try:
                stream: Any = self.client.xinfo_stream(stream_name(entity, shard))
            except redis.ResponseError:
                continue
            manifest = self._manifest(entity, shard)
            last = offset_of(stream["last-generated-id"].decode())
            if manifest is None or manifest["offset"] != last:
                return False
        return True

    def _manifest(self, entity: str, shard: int) -> dict[str, Any] | None:
        folder = self.settings.checkpoints(FEATURE_SET.name) / f"{entity}-{shard:02d}"
        try:
            found: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
        except FileNotFoundError:
            return None
        return found


class Reader(threading.Thread):
    """Reads all keys again and again; notes values that go back in event time."""

    def __init__(self, client: redis.Redis[bytes], keys: list[tuple[bytes, bytes]]) -> None:
        super().__init__(name="reader", daemon=True)
        self.gone_back: list[tuple[bytes, int, int]] = []
        self.samples = 0
        self.changes = 0
        self._client = client
        self._keys = keys
        self._newest: dict[bytes, int] = {}
        self._error: Exception | None = None
        self._asked = threading.Event()

    def run(self) -> None:
        try:
            while not self._asked.is_set():
                self._read()
                time.sleep(0.002)
        except Exception as error:  # shown by `end`
            self._error = error

    def _read(self) -> None:
        some = random.sample(self._keys, min(len(self._keys), 500))
        with self._client.pipeline(transaction=False) as pipeline:
            for key, timestamp in some:
                pipeline.hget(key, timestamp)
            found = pipeline.execute()
        for (key, _), raw in zip(some, found, strict=True):
            if raw is not None:
                self._look(key, decode_timestamp(raw))

    def end(self) -> None:
        """Stop reading; raises what went wrong meanwhile."""
        self._asked.set()
        self.join()
        if self._error is not None:
            raise self._error

    def _look(self, key: bytes, seen_us: int) -> None:
        self.samples += 1
        newest_us = self._newest.get(key, 0)
        if seen_us < newest_us:
            self.gone_back.append((key, newest_us, seen_us))
        if seen_us > newest_us:
            self.changes += 1
            self._newest[key] = seen_us
