"""Refills the online store, and the stream's checkpoints, from everything the log remembers.

The log's long memory is the archive of admitted events (`Settings.events_table`); what has not
come into it yet is still in the live log. Both are folded with the live kernel:

1. The live log is read once for the identities of its events.
2. The archive is folded in the order of the log. Copies of an event (an archive written under two
   generations has them) stand at one instant, and the first one counts.
3. The live log is read again; what the archive has not, is admitted, folded and archived.
4. The state of each key is written, once, under a new generation.
5. Each partition gets a fresh checkpoint at the place where the log was left.

The next `daima stream` goes on there, in one generation more: whatever it writes wins. A rebuild
that is broken off leaves a lineage that no stream continues, and is simply run again.

Memory: the states of all keys, as in the stream itself, and 9 bytes an event of the live log.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from feature_repo.contracts.errors import InputError
from feature_repo.contracts.feature_set import FeatureSet
from feature_repo.contracts.settings import Settings
from feature_repo.stores.event_history import ORDER_COLUMNS, concat, event_files
from feature_repo.stores.forgotten import ForgottenFile
from feature_repo.stores.redis_connection import connect
from streaming.admission import Admission
from streaming.backfill.source import Source as EventSource
from streaming.backfill.source import event_source
from streaming.checkpoints import CheckpointError, PartitionCheckpoint
from streaming.event_identity import IdentitySet, first_of_each, identities
from streaming.forgetting import without_forgotten
from streaming.key_states import KeyStates
from streaming.live_logs import LiveLog, Source
from streaming.log.frames import Frame, Partition, Unreadable
from streaming.log.reading import until_quiet
from streaming.log.valkey_layout import recorded_shards
from streaming.mapping.dead_letters import DeadLetters
from streaming.owned import OwnedPartitions
from streaming.setup import OfflineTables, Setup, check_store
from streaming.sinks.online import OnlineWriter

# A log is read to its end once no more than a trickle has come for so long. Kafka answers the
# first polls with nothing, while it still looks for its partitions.
_QUIET_S = {Source.VALKEY: 0.1, Source.KAFKA: 3.0}
# Events folded at a time; many small archive files overlap, and come in small pieces.
_FOLD_ROWS = 262_144


@dataclass
class RebuildReport:
    """What a rebuild did.

    Attributes:
        generation: of the values written.
        keys: written, by entity.
        archived: events folded from the archive, or from the files given.
        repeated: copies among them that were left out.
        of_log: events folded from the live log alone.
        dead_letters: events of the live log that were set aside.
        seconds: wall-clock time.
    """

    generation: int = 0
    keys: dict[str, int] = field(default_factory=dict)
    archived: int = 0
    repeated: int = 0
    of_log: int = 0
    dead_letters: int = 0
    seconds: float = 0.0


def rebuild(
    settings: Settings,
    history: Path | None,
    *,
    feature_set: FeatureSet | None = None,
    source: Source = Source.VALKEY,
    progress: Callable[[int], None] = lambda events: None,
    environ: Mapping[str, str] = os.environ,
) -> RebuildReport:
    """Refill the online store; no stream of the set may run meanwhile.

    Args:
        history: the archive, or event files that stand for it; None: the live log alone.
        feature_set: what to compute; the one that the settings name unless given.
        source: which live log.
        progress: called with the number of events just folded.

    Raises:
        InputError: there are no events at all, or a file is no event file.
        CheckpointError: a stream runs.
        StoreUnavailableError: the store or the log does not answer.

    Trap: for events that were only in the live log, rows of the live feature tables are not
    written; `daima backfill` makes them.
    """
    started_s = time.monotonic()
    check_store(settings)
    events = event_source(history, settings.offline) if history is not None else None
    with ExitStack() as stack:
        client = stack.enter_context(connect(settings.redis))
        log = LiveLog(source, settings, environ)
        setup = Setup(settings, feature_set, log.shards(client))
        if source is Source.VALKEY and recorded_shards(client) is None:  # lost with the store
            setup.shards = setup.lineage(client).known_shards() or setup.shards
        partitions = setup.partitions(range(setup.shards))
        _refuse_running(setup, partitions)
        lineage = setup.lineage(client)
        generation, run = lineage.begin_rebuild(str(source))
        owned = OwnedPartitions()
        stack.callback(owned.close)
        owned.open(setup.folder, setup.programs, partitions, run, anew=True)
        report = RebuildReport(generation)
        work = _Rebuild(setup, log, owned, report, progress)
        in_log = work.scan_log()
        if events is not None:
            work.fold_history(events, in_log)
        tables = OfflineTables(setup, run.generation)
        archives = history is None or history == settings.events_table
        letters = settings.dead_letters / f"rebuild-{run.generation}.stream.jsonl"
        with DeadLetters(letters) as dead_letters:
            work.fold_log(in_log, dead_letters, tables if archives else None)
            report.dead_letters = dead_letters.count
        if not (report.archived or report.of_log):
            raise InputError(
                "events", str(history), "events in the archive or in the log", "replay a file first"
            )
        tables.archive.flush()
        work.write_online(generation)
        work.write_checkpoints(run.log, run.generation)
        lineage.finish(run)
    report.seconds = time.monotonic() - started_s
    return report


def archive_of(settings: Settings) -> Path | None:
    """The archive; None if it has no events yet."""
    try:
        event_files(settings.events_table)
    except InputError:
        return None
    return settings.events_table


def _refuse_running(setup: Setup, partitions: list[Partition]) -> None:
    """Raise CheckpointError if a stream holds one of the partitions."""
    for entity, shard in partitions:
        folder = setup.folder / f"{entity}-{shard:02d}"
        try:
            PartitionCheckpoint(folder, setup.programs[entity]).close()
        except CheckpointError as error:
            if error.value == "in use":
                raise
            # Of other definitions, or damaged: it is about to be replaced.


class _Rebuild:
    """The states under way."""

    def __init__(
        self,
        setup: Setup,
        log: LiveLog,
        owned: OwnedPartitions,
        report: RebuildReport,
        progress: Callable[[int], None],
    ) -> None:
        self._setup = setup
        self._log = log
        self._owned = owned
        self._report = report
        self._progress = progress
        self._forgotten = ForgottenFile(setup.settings.offline).read()
        self._states = KeyStates(setup.programs, owned.shards, setup.shards)

    def scan_log(self) -> IdentitySet:
        """The log's events, and where each partition of the other entities ends.

        Those ends come before the whole events' own: an event between the two is folded twice,
        which changes nothing, and none is missed.
        """
        entity = self._setup.entities[self._setup.whole]
        found = []
        for entries in self._read_log(list(self._owned.shards)):
            for entry in entries:
                if entry.entity != self._setup.whole:
                    self._owned.offsets[entry.entity, entry.partition] = entry.offset
                elif isinstance(entry, Frame) and _is_sound(entry.events):
                    found.append(identities(entity, entry.events))
        return IdentitySet(found)

    def fold_history(self, source: EventSource, in_log: IdentitySet) -> None:
        """Fold the archive; marks what of the log it has."""
        setup = self._setup
        entity = setup.entities[setup.whole]
        columns = ORDER_COLUMNS.union(
            {"event_id"},
            entity.columns,
            *(program.frame_schema.names for program in setup.programs.values()),
        )
        batches = source.batches(columns, setup.feature_set, lambda late, rows: None)
        for events in _gathered(batches):
            found = identities(entity, events)
            in_log.mark(found)
            # Copies have one log time, and events of one instant come in one batch.
            first = first_of_each(found)
            kept = events if first.all() else events.filter(pa.array(first))
            self._states.fold(kept)
            self._report.archived += len(kept)
            self._report.repeated += len(events) - len(kept)
            self._progress(len(events))

    def fold_log(
        self, archived: IdentitySet, dead_letters: DeadLetters, tables: OfflineTables | None
    ) -> None:
        """Fold what only the log has; into the archive too, if `tables` is given."""
        setup, owned = self._setup, self._owned
        entity = setup.entities[setup.whole]
        admission = Admission(
            setup.feature_set,
            setup.programs,
            dead_letters,
            now=lambda: datetime.now(UTC),
            watermarks_us=self._states.watermarks_us,
        )
        for entries in self._read_log([key for key in owned.shards if key[0] == setup.whole]):
            unknown: list[Frame | Unreadable] = []
            for entry in without_forgotten(entries, self._forgotten, str(self._log.source)):
                owned.offsets[entry.entity, entry.partition] = entry.offset
                if isinstance(entry, Frame) and _is_sound(entry.events):
                    new = ~archived.marked(identities(entity, entry.events))
                    events = entry.events if new.all() else entry.events.filter(pa.array(new))
                    unknown.append(Frame(entry.entity, entry.partition, entry.offset, events))
                else:
                    unknown.append(entry)
            for admitted in admission.admit(unknown):
                self._states.fold(admitted.events)
                if tables is not None:
                    tables.archive.write(admitted.partition, admitted.first_offset, admitted.events)
                self._report.of_log += len(admitted.events)
                self._progress(len(admitted.events))

    def write_online(self, generation: int) -> None:
        """Write the state of each key, once."""
        with connect(self._setup.settings.redis) as client:
            writer = OnlineWriter(client)
            try:
                for owned, keys, states, times_us in self._states.all():
                    entity = self._setup.entities[owned[0]]
                    offset = self._owned.offsets[owned] or 0
                    writer.write(entity, generation, offset, keys, states, times_us)
                    counts = self._report.keys
                    counts[owned[0]] = counts.get(owned[0], 0) + len(keys)
            finally:
                writer.close()

    def write_checkpoints(self, log: str, generation: int) -> None:
        """Make each partition's state its checkpoint."""
        for owned, checkpoint in self._owned.checkpoints.items():
            checkpoint.add_base(self._owned.shards[owned].snapshot(), alone=True)
            watermark_us = self._states.watermarks_us.get(owned)
            checkpoint.commit(log, generation, self._owned.offsets[owned], watermark_us)

    def _read_log(self, partitions: list[Partition]) -> Iterator[list[Frame | Unreadable]]:
        reader = self._log.open(dict.fromkeys(partitions), lambda: False)
        try:
            yield from until_quiet(reader, _QUIET_S[self._log.source])
        finally:
            reader.close()


def _is_sound(events: pa.RecordBatch) -> bool:
    try:
        events.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _gathered(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same events in batches of at least `_FOLD_ROWS`."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        held.append(batch)
        rows += len(batch)
        if rows >= _FOLD_ROWS:
            yield concat(held)
            held, rows = [], 0
    if rows:
        yield concat(held)
