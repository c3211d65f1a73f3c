"""Runs the dataflow over an event file, or over the partitions of the live log."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType

import pyarrow as pa
import redis
from bytewax.testing import run_main

from feature_repo.contracts.feature_set import FeatureSet, load_feature_set
from feature_repo.contracts.settings import SHARDS, Settings
from feature_repo.engine.projection import log_times_us
from feature_repo.stores.forgotten import ForgottenFile, without
from feature_repo.stores.redis_connection import connect
from streaming.admission import Admission
from streaming.dataflow import Features, Stores, build_dataflow
from streaming.epochs import Epochs
from streaming.failure import Failure
from streaming.forgetting import CUSTOMER, Forgetter
from streaming.interpreter_pauses import few_pauses
from streaming.kept_memory import keep_memory
from streaming.lineage import LogRun
from streaming.live_logs import LiveLog, Source
from streaming.log.files import FRAME_ROWS, FileLogReader
from streaming.log.frames import LogReader, Partition
from streaming.log.valkey_layout import recorded_shards
from streaming.mapping.dead_letters import DeadLetters
from streaming.owned import OwnedPartitions
from streaming.rebase import REBASE_EVENTS, Rebase
from streaming.report import StreamReport
from streaming.setup import OfflineTables, Setup, check_store
from streaming.sinks.online import OnlineWriter
from streaming.source import LogSource
from streaming.updates import Position, Update

EPOCH = timedelta(seconds=10)


@dataclass(frozen=True)
class Share:
    """Which partitions a process owns: of `workers` processes, those of the `worker`-th.

    >>> Share(1, 3).of(8)
    [1, 4, 7]
    """

    worker: int = 0
    workers: int = 1

    def of(self, shards: int) -> list[int]:
        """The partitions of each entity's stream."""
        return [shard for shard in range(shards) if shard % self.workers == self.worker]


def stop_on_signals() -> Callable[[], bool]:
    """Let SIGTERM and SIGINT end a live run after what it has read is written."""
    stop = threading.Event()

    def handle(signum: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
    return stop.is_set


def run_file(
    events: Path,
    settings: Settings,
    *,
    feature_set: FeatureSet | None = None,
    progress: Callable[[int], None] = lambda events: None,
    frame_rows: int = FRAME_ROWS,
) -> StreamReport:
    """Stream an event file (`daima replay` and `daima simulate` write them) into both stores.

    Its states become the set's, and the live log continues from them; see `streaming.lineage`
    for what came before and for a file that is run again.

    Args:
        events: Parquet of `EVENT_SCHEMA` in the order of log time, or a folder of such files.
        feature_set: what to compute; the one that the settings name unless given.
        progress: called with the number of events just let in.

    Raises:
        InputError: the file is not an event file.
        StoreUnavailableError: the online store does not answer, or did not come back.
        CheckpointError: a live stream runs on these checkpoints.
    """
    feature_set = feature_set or load_feature_set(settings.definitions)
    forgotten = ForgottenFile(settings.offline).read()

    def kept(batch: pa.RecordBatch) -> pa.RecordBatch:
        return without(batch, forgotten, CUSTOMER, log_times_us) if forgotten else batch

    def open_file(shards: int) -> LogReader:
        return FileLogReader(events, feature_set, None, frame_rows, shards, kept=kept)

    open_file(SHARDS).close()  # a clear error before anything is written
    check_store(settings)
    with ExitStack() as stack:
        client = stack.enter_context(connect(settings.redis))
        # The live log continues from these states, so it has the same partitions.
        setup = Setup(settings, feature_set, recorded_shards(client) or SHARDS)
        lineage = setup.lineage(client)
        replay = lineage.begin_replay(events)
        partitions = setup.partitions(range(setup.shards))
        if replay.fresh:
            owned = OwnedPartitions()
            stack.callback(owned.close)
            owned.open(setup.folder, setup.programs, partitions, replay.run, anew=True)
        else:
            owned = OwnedPartitions.empty(setup.programs, partitions)
        if replay.stale_generation is not None:
            stale = OfflineTables(setup, replay.stale_generation)
            for partition in partitions:
                stale.resume(partition, None)
        owned.generations = {partition: {replay.run.generation} for partition in partitions}
        letters = settings.dead_letters / f"{events.resolve().stem}.stream.jsonl"
        report = _run(
            setup,
            client,
            owned=owned,
            run=replay.run,
            open_reader=lambda: open_file(setup.shards),
            dead_letters=DeadLetters(letters),
            progress=progress,
        )
        if replay.fresh:
            lineage.finish(replay.run)
    return report


def run_live(
    settings: Settings,
    stopped: Callable[[], bool],
    *,
    feature_set: FeatureSet | None = None,
    source: Source = Source.VALKEY,
    share: Share | None = None,
    epoch: timedelta = EPOCH,
    rebase_events: int = REBASE_EVENTS,
    progress: Callable[[int], None] = lambda events: None,
    environ: Mapping[str, str] = os.environ,
) -> StreamReport:
    """Stream this process's share of the live log into both stores until `stopped()`.

    Goes on after the last checkpoint; without one, from the log's beginning. What has been read
    when it is stopped is written and committed before this returns.

    Args:
        feature_set: what to compute; the one that the settings name unless given.
        source: which log; Kafka's settings stand in `environ`.
        share: which partitions; all of them unless given.
        epoch: time from one checkpoint to the next.
        rebase_events: of a partition, after which its whole state is written anew.
        progress: called with the number of events just let in.

    Raises:
        CheckpointError: the checkpoints are of other definitions, or another process has them.
        LogGapError: the log no longer has what comes after the checkpoint.
        StoreUnavailableError: the log or the online store does not answer, or did not come back.
    """
    check_store(settings)
    share = share or Share()
    with ExitStack() as stack:
        client = stack.enter_context(connect(settings.redis))
        log = LiveLog(source, settings, environ)
        setup = Setup(settings, feature_set, log.shards(client, feature_set))
        run = setup.lineage(client).continue_live(str(source))
        owned = OwnedPartitions()
        stack.callback(owned.close)
        partitions = setup.partitions(share.of(setup.shards))
        owned.open(setup.folder, setup.programs, partitions, run)

        def committed(positions: Mapping[Partition, Position]) -> None:
            offsets = {key: position.offset for key, position in positions.items()}
            log.trim(client, offsets, datetime.now(UTC))

        forgetter = Forgetter(
            ForgottenFile(settings.offline),
            feature_set=setup.feature_set.name,
            programs=setup.programs,
            shards=setup.shards,
            log=str(source),
            owned=partitions,
        )
        # A file of letters a run: those of the run before are still unread.
        name = f"live-{datetime.now(UTC):%Y%m%dT%H%M%S}-{share.worker}.stream.jsonl"
        return _run(
            setup,
            client,
            owned=owned,
            run=run,
            open_reader=lambda: log.open(owned.offsets, stopped),
            dead_letters=DeadLetters(settings.dead_letters / name, live=True),
            progress=progress,
            rebase=Rebase(epoch, owned.events_since_base, rebase_events),
            epoch=epoch,
            now=lambda: datetime.now(UTC),
            committed=committed,
            forgetter=forgetter,
        )


def restart(settings: Settings, feature_set: FeatureSet | None = None) -> None:
    """Forget a set's checkpoints: its next live run begins at the log's beginning.

    Raises:
        StoreUnavailableError: the online store does not answer.
    """
    check_store(settings)
    with connect(settings.redis) as client:
        shards = recorded_shards(client) or SHARDS
        Setup(settings, feature_set, shards).lineage(client).restart()


def _run(
    setup: Setup,
    client: redis.Redis[bytes],
    *,
    owned: OwnedPartitions,
    run: LogRun,
    open_reader: Callable[[], LogReader],
    dead_letters: DeadLetters,
    progress: Callable[[int], None],
    rebase: Rebase | None = None,
    epoch: timedelta | None = None,
    now: Callable[[], datetime] | None = None,
    committed: Callable[[Mapping[Partition, Position]], None] = lambda positions: None,
    forgetter: Forgetter | None = None,
) -> StreamReport:
    """Wire everything, run it to the end of the log, and count."""
    report, failure = StreamReport(), Failure()
    started_s = time.monotonic()
    tables = OfflineTables(setup, run.generation)
    for partition, written in owned.generations.items():
        for generation in written:
            OfflineTables(setup, generation).resume(partition, owned.offsets[partition])

    def admitted(events: int) -> None:
        report.events += events
        progress(events)

    def folded(update: Update) -> None:
        if update.admitted.entity == setup.whole:
            report.duplicates += update.duplicates

    readers: list[LogReader] = []

    def open_once() -> LogReader:
        readers.append(open_reader())
        return readers[-1]

    with dead_letters:
        admission = Admission(
            setup.feature_set,
            setup.programs,
            dead_letters,
            now=now,
            watermarks_us=owned.watermarks_us,
            admitted=admitted,
        )
        store = setup.generations(client)
        online = OnlineWriter(connect(setup.settings.redis))
        epochs = Epochs(
            tables.features,
            (setup.whole, tables.archive),
            owned.checkpoints,
            run,
            # Running an old file again writes in its old generation: refused online, and rightly.
            check=lambda: store.check(run.generation) if epoch else None,
            keep_events=epoch is not None,
            failed=failure.note,
            committed=committed,
            forgotten=forgetter.done if forgetter else lambda owned, keys: None,
        )
        features = Features(
            owned.shards,
            rebase,
            failure,
            copy_at_end=epoch is None and bool(owned.checkpoints),
        )
        source = LogSource(
            open_once,
            admission,
            owned.offsets,
            failure,
            epoch=epoch,
            forgetter=forgetter,
            committing=lambda: epochs.committing,
            epoch_ended=report.epoch_gaps_s.append,
        )
        stores = Stores(setup.entities, run.generation, online, epochs, failure, folded=folded)
        flow = build_dataflow(source, features, stores)
        with few_pauses():
            keep_memory()
            run_main(flow)  # type: ignore[no-untyped-call]  # compiled, without hints
        failure.check()
        report.dead_letters = dead_letters.count
    report.rows_online, report.refused_online = online.written, online.refused
    report.set_aside = admission.set_aside
    report.gone = sum(sum(reader.gone.values()) for reader in readers)
    report.seconds = time.monotonic() - started_s
    return report
