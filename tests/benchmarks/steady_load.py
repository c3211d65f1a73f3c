"""A process that appends live events at a steady high rate, and costs little itself.

    python -m tests.benchmarks.steady_load --events-per-s N --seconds S [--customers N] ...

What `tests.benchmarks.producer` appends, encoded ahead: a cycle of batches of random events, each
the frames that `ValkeyLog.append` would make of it. Only an event's id and its time are new each
time a frame is sent, written into the frame's bytes: ids count on, so no event comes twice, and
times are those of the append. What is measured is then the stream, not the making of events.

It prints the lines of `tests.benchmarks.producer`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_repo.contracts.features import FEATURE_SET
from feature_repo.contracts.settings import SHARDS, Settings
from feature_repo.stores.redis_connection import connect
from streaming.log.arrow_frames import encode_frame
from streaming.log.entity_frames import EntityFrames
from streaming.log.valkey_layout import RECORD, stream_name
from streaming.log.valkey_streams import _APPEND as APPEND_SCRIPT
from tests.benchmarks.workload import LiveEvents

# Of batches: each costs the log some 24 entries, whatever their size.
EVERY_S = 0.02
# Different events; the customers of a cycle come again in the next one, with new events.
_CYCLE = 500_000
_ROUND_DIGITS = 9
_ROW_DIGITS = 6


@dataclass(frozen=True)
class _Frame:
    """One entry of the log, and where in it stand what changes."""

    stream: str
    payload: bytearray
    rounds: npt.NDArray[np.uint8]  # (rows, digits) of the ids
    times: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]  # of the batch


@dataclass(frozen=True)
class _Batch:
    frames: list[_Frame]
    keys: list[str]


class SteadyEvents:
    """Batches of encoded events.

    Args:
        customers: how many different ones.
        seed: of everything but ids and times.
        rows: events of a batch.
        batches: different ones.
    """

    def __init__(self, customers: int, seed: int, rows: int, batches: int) -> None:
        self._events = LiveEvents(customers, seed)
        self._split = EntityFrames(FEATURE_SET, SHARDS)
        self._prefix = f"s{seed}-"
        self._batches = [self._encoded(rows) for _ in range(batches)]
        self._round = 0

    def next(self, first_us: int) -> tuple[list[str], list[bytes], list[str]]:
        """(streams, their entries, customers by row) of a batch whose times count on from one."""
        batch = self._batches[self._round % len(self._batches)]
        digits = np.frombuffer(f"{self._round:0{_ROUND_DIGITS}d}".encode(), np.uint8)
        self._round += 1
        for frame in batch.frames:
            frame.rounds[:] = digits
            np.add(frame.rows, first_us, out=frame.times)
        payloads = [bytes(frame.payload) for frame in batch.frames]
        return [frame.stream for frame in batch.frames], payloads, batch.keys

    def _encoded(self, rows: int) -> _Batch:
        events = self._events.take(np.arange(rows))
        prefix = self._prefix + _ROUND_DIGITS * "0"
        ids = pa.array([f"{prefix}{row:0{_ROW_DIGITS}d}" for row in range(rows)])
        events = events.set_column(
            events.schema.get_field_index("event_id"), events.schema.field("event_id"), ids
        )
        frames = [
            self._opened(stream_name(*partition), bytearray(encode_frame(part)))
            for partition, part in self._split.split(events)
        ]
        return _Batch(frames, events.column("customer_id").to_pylist())

    def _opened(self, stream: str, payload: bytearray) -> _Frame:
        whole = pa.py_buffer(payload)
        with pa.ipc.open_stream(whole) as reader:
            events = reader.read_next_batch()
        count = len(events)
        width = len(self._prefix) + _ROUND_DIGITS + _ROW_DIGITS
        texts = events.column("event_id").buffers()[2].address - whole.address
        ids = np.frombuffer(payload, np.uint8, count * width, texts).reshape(count, width)
        at = events.column("event_time").buffers()[1].address - whole.address
        times = np.frombuffer(payload, np.int64, count, at)
        begin = len(self._prefix)
        return _Frame(stream, payload, ids[:, begin : begin + _ROUND_DIGITS], times, times.copy())


def produce(settings: Settings, asked: argparse.Namespace) -> None:
    """Append a batch every `EVERY_S`, or as fast as it goes where that is too slow."""
    rows = round(asked.events_per_s * EVERY_S)
    events = SteadyEvents(asked.customers, asked.seed, rows, max(1, _CYCLE // rows))
    client = connect(settings.redis)
    append = client.register_script(APPEND_SCRIPT)
    print("{}", flush=True)  # ready
    rng = np.random.default_rng(0)
    began_s = time.monotonic()
    sent = tellings = 0
    longest_s = 0.0
    while (passed_s := time.monotonic() - began_s) < asked.seconds:
        if (early_s := sent / asked.events_per_s - passed_s) > 0:
            time.sleep(early_s)
            continue
        first_us = time.time_ns() // 1000 - rows
        streams, entries, keys = events.next(first_us)
        at_s = time.monotonic()
        append([RECORD, *streams], [str(SHARDS), *entries])
        longest_s = max(longest_s, time.monotonic() - at_s)
        sent += rows
        while tellings < passed_s * asked.told:
            at = int(rng.integers(rows))
            told_of = {"key": keys[at], "time_us": first_us + at, "at_s": at_s}
            print(json.dumps(told_of), flush=False)
            tellings += 1
        sys.stdout.flush()
    print(json.dumps({"events": sent, "seconds": passed_s, "longest_append_s": longest_s}))


def main(argv: Sequence[str]) -> int:
    """Produce into the log that `DAIMA_REDIS` names."""
    parser = argparse.ArgumentParser("python -m tests.benchmarks.steady_load")
    parser.add_argument("--events-per-s", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--customers", type=int, default=100_000)
    parser.add_argument("--told", type=int, default=200)
    parser.add_argument("--seed", type=int, default=2)
    produce(Settings.from_env(), parser.parse_args(argv))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
