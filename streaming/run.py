"""Runs the dataflow over a file log or over the live log."""

from __future__ import annotations

import hashlib
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType

import redis
from bytewax.testing import run_main

from feature_repo.contracts.errors import StoreUnavailableError
from feature_repo.contracts.settings import Settings
from feature_repo.stores.redis_connection import connect
from streaming.admission import Admission
from streaming.dataflow import build_dataflow
from streaming.log.files import FileLogReader
from streaming.log.frames import LogReader
from streaming.log.valkey_streams import ValkeyLogReader
from streaming.mapping.dead_letters import DeadLetters
from streaming.sinks.offline import OfflineSink, OfflineWriter
from streaming.sinks.online import OnlineSink
from streaming.source import LogSource

# Offsets that share an offline file: rows of a file log ...
FILE_SEGMENT = 8 * 65_536
# ... and a minute of the live log, whose offsets are milliseconds * 10^6 (+ a sequence number).
LIVE_SEGMENT = 60_000 * 1_000_000
# The larger a frame, the more updates of one customer become one write to the online store.
FRAME_ROWS = 65_536
LIVE_FLUSH = timedelta(seconds=5)


@dataclass
class StreamReport:
    """What a run of the dataflow did.

    Attributes:
        events: events let into the dataflow.
        rows_online: rows written to the online store (a customer's updates within a frame are
            one row).
        duplicates: events that changed nothing, since their customer and id had come before.
        dead_letters: events set aside by the dataflow.
        seconds: wall-clock time.
    """

    events: int = 0
    rows_online: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    seconds: float = 0.0

    @property
    def events_per_s(self) -> float:
        """Events a second over the whole run."""
        return self.events / self.seconds if self.seconds else 0.0


def check_store(settings: Settings) -> None:
    """Raise StoreUnavailableError unless the online store answers."""
    try:
        connect(settings.redis).ping()
    except redis.RedisError as error:
        raise StoreUnavailableError(
            "online store",
            settings.redis_address,
            "a Valkey or Redis server",
            "start one (make up), or set DAIMA_REDIS",
        ) from error


def run_file(
    events: Path,
    settings: Settings,
    *,
    progress: Callable[[int], None] = lambda events: None,
    frame_rows: int = FRAME_ROWS,
) -> StreamReport:
    """Stream a file log (`daima replay` and `daima simulate` write them) into both stores.

    Another run over the same path replaces the offline rows of this one.

    Args:
        events: Parquet of `EVENT_SCHEMA`, sorted by event time.
        progress: called with the number of events just let in.

    Raises:
        InputError: the file is not an event file.
        StoreUnavailableError: the online store did not come back.
    """
    FileLogReader(events).close()  # a clear error here, not a panic inside the dataflow
    path = events.resolve()
    writer = OfflineWriter(settings.stream_table, f"{path.stem}-{_short_hash(path)}", FILE_SEGMENT)
    report = _run(
        lambda: FileLogReader(events, frame_rows),
        settings,
        writer,
        DeadLetters(settings.dead_letters / f"{path.stem}.stream.jsonl"),
        progress=progress,
    )
    writer.remove_stale()
    return report


def _short_hash(path: Path) -> str:
    """Tells two files of one name in different folders apart."""
    return hashlib.sha256(str(path).encode()).hexdigest()[:8]


def run_live(settings: Settings, stopped: Callable[[], bool]) -> StreamReport:
    """Stream the live log (Valkey Streams) into both stores until `stopped()`."""
    # A file of letters a run: those of the run before are still unread.
    letters = f"live-{datetime.now(UTC):%Y%m%dT%H%M%S}.stream.jsonl"
    return _run(
        lambda: ValkeyLogReader(connect(settings.redis), stopped),
        settings,
        OfflineWriter(settings.stream_table, "live", LIVE_SEGMENT, LIVE_FLUSH),
        DeadLetters(settings.dead_letters / letters, live=True),
        now=lambda: datetime.now(UTC),
    )


def stop_on_signals() -> Callable[[], bool]:
    """Let SIGTERM and SIGINT end a live run after what it has read is written."""
    stop = threading.Event()

    def handle(signum: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
    return stop.is_set


def _run(
    open_reader: Callable[[], LogReader],
    settings: Settings,
    writer: OfflineWriter,
    dead_letters: DeadLetters,
    *,
    progress: Callable[[int], None] = lambda events: None,
    now: Callable[[], datetime] | None = None,
) -> StreamReport:
    report = StreamReport()

    def admitted(events: int) -> None:
        report.events += events
        progress(events)

    def written(rows: int) -> None:
        report.rows_online += rows

    def repeated(events: int) -> None:
        report.duplicates += events

    check_store(settings)
    started_s = time.monotonic()
    with dead_letters:
        flow = build_dataflow(
            LogSource(open_reader, Admission(dead_letters, now, admitted)),
            OnlineSink(lambda: connect(settings.redis), written),
            OfflineSink(writer, repeated),
        )
        run_main(flow)  # type: ignore[no-untyped-call]  # compiled, without hints
        report.dead_letters = dead_letters.count
    report.seconds = time.monotonic() - started_s
    return report
