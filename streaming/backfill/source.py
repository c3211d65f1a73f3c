"""What a backfill reads: an event file, a folder of them, or any file by way of a mapping."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from feature_repo.contracts.feature_set import FeatureSet
from feature_repo.contracts.money import ExchangeRates
from feature_repo.engine.projection import log_times_us
from feature_repo.stores.event_history import EventFile, concat, event_files, read_in_log_order
from feature_repo.stores.forgotten import Forgotten, ForgottenFile, without
from streaming.backfill.log_order import OnLate, in_log_order
from streaming.mapping.dead_letters import DeadLetters
from streaming.mapping.ingest import ingest
from streaming.mapping.spec import Mapping

CUSTOMER = "customer_id"
# Events folded at a time, by each share: a key's state is unpacked and packed once a batch, and a
# column's page begun once, so that half as many take a tenth longer; of twice as many the rows no
# longer stay in the processor's caches.
BATCH_ROWS = 65_536


@dataclass(frozen=True)
class Source:
    """Events to fold, in the order of the log.

    Attributes:
        path: an event file, or a folder of them.
        fingerprint: says which events they are (path, size, time of change); the same source
            gives the same events in the same order.
        events: how many there are, forgotten customers' included.
        offline: the offline store whose tombstones hold for them; None: the events are no
            business of any store.
    """

    path: Path
    fingerprint: str
    events: int
    offline: Path | None = None

    def batches(
        self,
        columns: Iterable[str],
        feature_set: FeatureSet,
        on_late: OnLate,
        *,
        shares: int = 1,
    ) -> Iterator[pa.RecordBatch]:
        """The events by log time.

        A file is one partition of a log, and events that come too late in it go to `on_late`. What
        is in a folder has been let in by the stream that wrote it.

        Batches of a file are so large that one of `shares` equal shares of them is worth folding.
        """
        forgotten = self._forgotten()
        wanted = frozenset(columns)
        read = wanted | {CUSTOMER} if forgotten else wanted
        for batch in self._ordered(read, feature_set, on_late, BATCH_ROWS * shares):
            kept = without(batch, forgotten, CUSTOMER, log_times_us) if forgotten else batch
            if len(kept):
                yield kept if read == wanted else kept.drop_columns([CUSTOMER])

    def _forgotten(self) -> Forgotten:
        # What is in the archive of those who were forgotten has come since.
        if self.offline is None or self.offline.resolve() in self.path.resolve().parents:
            return Forgotten()
        return ForgottenFile(self.offline).read()

    def _ordered(
        self, columns: Iterable[str], feature_set: FeatureSet, on_late: OnLate, rows: int
    ) -> Iterator[pa.RecordBatch]:
        if self.path.is_dir():
            yield from read_in_log_order(self.path, columns)
            return
        file = EventFile(self.path, columns)
        try:
            whole = _joined(file.batches(rows), rows)
            yield from in_log_order(whole, feature_set.lateness, on_late)
        finally:
            file.close()


def event_source(path: Path, offline: Path | None = None) -> Source:
    """An event file, or a folder of them (such as the archive).

    Args:
        offline: the offline store whose forgotten customers are left out.

    Raises:
        InputError: there is none, or one is no event file.
    """
    files = event_files(path)
    events = 0
    for each in files:
        opened = EventFile(each, ("event_id",))
        events += opened.rows
        opened.close()
    return Source(path, _fingerprint(path, files), events, offline)


def mapped_source(
    path: Path,
    mapping_file: Path,
    rates_file: Path,
    *,
    work: Path,
    dead_letters: DeadLetters,
    progress: Callable[[str, float], None],
    offline: Path | None = None,
) -> Source:
    """Any source of events: mapped once to a sorted event file in `work`, and kept there.

    Raises:
        MappingError: the mapping file is wrong, or does not fit the source.
        InputError: the source or the exchange rates cannot be read.
    """
    mapping = Mapping.load(mapping_file)
    if not path.is_file():
        event_files(path)  # says what is expected
    texts = (mapping_file.read_bytes(), rates_file.read_bytes())
    key = _fingerprint(path, [path], *texts)
    out = work / f"{key}.parquet"
    if not out.is_file():
        with dead_letters:
            ingest(path, mapping, out, ExchangeRates(rates_file), dead_letters, progress=progress)
    return Source(out, key, event_source(out).events, offline)


def _joined(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Batches of at least so many rows, but for the last: a file's end with its row groups."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(map(len, held)) >= rows:
            yield concat(held)
            held = []
    if held:
        yield concat(held)


def _fingerprint(root: Path, files: Iterable[Path], *texts: bytes) -> str:
    digest = hashlib.sha256()
    for path in files:
        found = path.stat()
        name = path.relative_to(root) if root.is_dir() else path.resolve()
        digest.update(f"{name}\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    for text in texts:
        digest.update(text)
    return digest.hexdigest()[:16]
