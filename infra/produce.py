"""`daima produce`: an event file, or a file of one's own, into the live log."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from feature_repo.contracts.errors import SettingsError
from feature_repo.contracts.settings import Settings
from infra.progress import Reporter, Step, reporting
from infra.stack_file import settings_at
from streaming.log.errors import DeliveryError

if TYPE_CHECKING:
    import pyarrow as pa

    from feature_repo.contracts.feature_set import FeatureSet
    from streaming.log.frames import EventLog

To = Literal["valkey", "kafka"]
Payload = Literal["arrow", "json"]
# Rows appended at a time, and the least time between two appends at a given rate.
_ROWS = 8_192
_TICK_S = 0.02


@dataclass(frozen=True)
class ProduceOptions:
    """What `daima produce` was asked for.

    Attributes:
        file: an event file, or, with a mapping, a file of one's own.
        mapping: how to read it; None for an event file.
        to: which log.
        rate: events a second at most; None: as fast as the log takes them.
        definitions: module of feature definitions; None: the default ones.
        payload: of Kafka's messages.
        shards: partitions of a log that is created by this; None: as many as the log has, or
            `SHARDS`.
        home: folder of everything written locally; None takes the default.
    """

    file: Path
    mapping: Path | None = None
    to: To = "valkey"
    rate: float | None = None
    definitions: Path | None = None
    payload: Payload = "arrow"
    shards: int | None = None
    home: Path | None = None


def run_produce(
    options: ProduceOptions, *, as_json: bool, environ: Mapping[str, str] = os.environ
) -> None:
    """Append the events in their order, and say how many the log has confirmed.

    Raises:
        DeliveryError: the log did not confirm some; those of earlier batches are in it.
        InputError: the file is no event file, or its source cannot be read.
        MappingError: the mapping is wrong, or does not fit the source.
        SettingsError: a setting is wrong, or the log has another number of partitions.
        StoreUnavailableError: the log does not answer.
    """
    from feature_repo.contracts.feature_set import load_feature_set

    if options.rate is not None and options.rate <= 0:
        raise SettingsError("--rate", options.rate, "more than 0 events a second", "correct it")
    if options.payload == "json" and options.to != "kafka":
        raise SettingsError("--format", "json", "arrow, in a log in Valkey", "add --to kafka")
    feature_set = load_feature_set(options.definitions)
    settings, _ = settings_at(options.home, environ)
    started_s = time.monotonic()
    confirmed = 0
    with (
        reporting() as reporter,
        _event_file(options, settings, reporter) as events,
        _open_log(options, feature_set, settings, environ) as log,
    ):
        total = _rows_in(events)
        with reporter.step("Producing events", total) as step:
            try:
                for count in produce(events, log, options.rate):
                    confirmed += count
                    step.advance(count)
            except DeliveryError as error:
                confirmed += error.confirmed
                print(f"{confirmed:,} of {total:,} events confirmed by {options.to}")
                raise
            seconds = time.monotonic() - started_s
            step.note(f"{confirmed:,} events")
    print(f"{confirmed:,} events confirmed by {options.to}")
    if as_json:
        counts = {"events": confirmed, "to": options.to, "seconds": round(seconds, 3)}
        print(json.dumps(counts))


def produce(
    events: Path,
    log: EventLog,
    rate: float | None,
    monotonic_s: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[int]:
    """Append an event file to a log, at most `rate` events a second; yields what is confirmed.

    Raises:
        DeliveryError: the log did not confirm some.
    """
    rows = _ROWS if rate is None else max(1, min(_ROWS, int(rate * _TICK_S)))
    started_s, confirmed = monotonic_s(), 0
    for batch in _batches(events, rows):
        if rate is not None:
            # Due when the events before it have taken their time: a slow append is made up for.
            wait_s = started_s + confirmed / rate - monotonic_s()
            if wait_s > 0:
                sleep(wait_s)
        confirmed += (count := log.append(batch))
        yield count


def _batches(events: Path, rows: int) -> Iterator[pa.RecordBatch]:
    from feature_repo.contracts.events import EVENT_SCHEMA
    from streaming.log.files import open_event_file

    with open_event_file(events) as file:
        for batch in file.iter_batches(max(rows, _ROWS)):
            for start in range(0, len(batch), rows):
                yield batch.slice(start, rows).cast(EVENT_SCHEMA)


def _rows_in(events: Path) -> int:
    from streaming.log.files import open_event_file

    with open_event_file(events) as file:
        return int(file.metadata.num_rows)


@contextmanager
def _event_file(options: ProduceOptions, settings: Settings, reporter: Reporter) -> Iterator[Path]:
    """The event file itself, or one made of the source, for the time of the command."""
    if options.mapping is None:
        _rows_in(options.file)  # refuses what is none
        yield options.file
        return
    from feature_repo.contracts.money import ExchangeRates
    from streaming.mapping.dead_letters import DeadLetters
    from streaming.mapping.ingest import ingest
    from streaming.mapping.spec import Mapping as SourceMapping

    mapping = SourceMapping.load(options.mapping)
    settings.log.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".produce-", dir=settings.log) as folder:
        out = Path(folder) / "events.parquet"
        with (
            DeadLetters.for_source(settings.dead_letters, options.file) as letters,
            reporter.step("Mapping and sorting events (%)", 100) as step,
        ):
            rates = ExchangeRates()
            report = ingest(options.file, mapping, out, rates, letters, progress=_Halves(step))
            step.note(f"{report.events:,} events, {report.dead_letters:,} dead letters")
        if report.dead_letters:
            print(f"{report.dead_letters:,} rows are no events: see {letters.path}")
        yield out


class _Halves:
    """Turns ingestion's (stage, fraction) into per cent: the two stages are a half each."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._done = 0

    def __call__(self, stage: str, fraction: float) -> None:
        percent = int(50 * fraction) + (50 if stage == "sorting" else 0)
        self._step.advance(max(0, percent - self._done))
        self._done = max(self._done, percent)


@contextmanager
def _open_log(
    options: ProduceOptions,
    feature_set: FeatureSet,
    settings: Settings,
    environ: Mapping[str, str],
) -> Iterator[EventLog]:
    from streaming.log.opening import open_log

    log = open_log(
        options.to,
        feature_set,
        settings.redis,
        environ,
        shards=options.shards,
        payload=options.payload,
    )
    try:
        yield log
    finally:
        log.close()
