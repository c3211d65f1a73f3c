"""Compaction of the offline tables: a finished day's small files become one a partition."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.contracts.batch_views import EMBEDDING_STATE_VIEW
from feature_repo.contracts.embeddings import EMBEDDING_VIEW
from feature_repo.contracts.feature_set import FeatureSet
from feature_repo.contracts.settings import Settings
from streaming.checkpoints import Manifest
from streaming.embedding_compaction import compact_vectors
from streaming.offline_files import OfflineName, rewriting, sync, write_options

Settled = Callable[[OfflineName], bool]
_DAY = "event_date="
_ROW_GROUP = 131_072
# Rows read at a time.
_BATCH = 65_536


class CompactionReport(msgspec.Struct):
    """What compaction did: files before and after in the days that it touched, rows dropped."""

    files_before: int = 0
    files_after: int = 0
    rows_dropped: int = 0


def compact(
    table: Path,
    before: date,
    settled: Settled = lambda name: True,
    progress: Callable[[int], None] = lambda files: None,
) -> CompactionReport:
    """Merge the files of each (generation, partition) of the days before `before`.

    The merged file takes the place, and the name, of the first of them. Of feature rows of one
    (key, event) the last stays: those given again after late events. Of events in the archive with
    one (customer, event id) the first stays.

    Readers may read on meanwhile, and a crash costs nothing: the merged file appears in one step,
    then the others go, oldest first. Between the two a row may be seen twice, and the last of two
    rows of one event is always the right one.

    Args:
        table: an offline table, such as `Settings.events_table`.
        before: the first day that may still be written to.
        settled: which files no restart writes again (`settled_files`); others are left alone.
        progress: called with the number of files just dealt with.

    Trap: beside a stream it needs `settled`; and one compaction of a table at a time.
    """
    report = CompactionReport()
    for folder in sorted(table.glob(f"{_DAY}*")):
        day = _day(folder)
        if day is None or day >= before:
            continue
        for files in _groups(folder, settled):
            if len(files) > 1:
                report.rows_dropped += _merge(files)
                report.files_before += len(files)
                report.files_after += 1
            progress(len(files))
    return report


def compact_tables(
    settings: Settings,
    feature_set: FeatureSet,
    before: date,
    progress: Callable[[int], None] = lambda files: None,
) -> dict[str, CompactionReport]:
    """Compact the archive, each entity's live rows and customers' vectors; what became of each.

    Streams may go on meanwhile.
    """
    checkpoints = settings.checkpoints(feature_set.name)
    whole = feature_set.entities[0].name
    settings.offline.mkdir(parents=True, exist_ok=True)
    tables = {settings.events_table: whole} | {
        settings.features_table(entity.name): entity.name for entity in feature_set.entities
    }
    with rewriting(settings.offline):  # beside a forgetting, its customer's rows might come back
        reports = {
            table.name: compact(table, before, settled_files(checkpoints, entity), progress)
            for table, entity in tables.items()
        }
        for view in (EMBEDDING_VIEW, EMBEDDING_STATE_VIEW):
            if (vectors := settings.batch_table(view)).is_dir():
                reports[view] = CompactionReport(*compact_vectors(vectors, before, progress))
    return reports


def settled_files(checkpoints: Path, entity: str) -> Settled:
    """Files of an entity's partitions that their streams have checkpointed.

    Those of the checkpoint's generation up to its offset, and all of older generations: what
    writes these is over. Of a partition without a checkpoint, none.

    Args:
        checkpoints: the feature set's folder of them.

    Raises:
        msgspec.DecodeError: a manifest is damaged.
    """
    reached: dict[int, tuple[int, int]] = {}
    for path in checkpoints.glob(f"{entity}-*/manifest.json"):
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
        offset = -1 if manifest.offset is None else manifest.offset
        reached[int(path.parent.name.rpartition("-")[2])] = (manifest.generation, offset)

    def settled(name: OfflineName) -> bool:
        generation, offset = reached.get(name.partition, (-1, -1))
        return (int(name.generation), name.offset) <= (generation, offset)

    return settled


def _day(folder: Path) -> date | None:
    try:
        return date.fromisoformat(folder.name.removeprefix(_DAY))
    except ValueError:
        return None


def _groups(folder: Path, settled: Settled) -> Iterator[list[Path]]:
    """Files of each (generation, partition) that may be merged, in log order."""
    named = sorted(
        (name, path)
        for path in folder.glob("*.parquet")
        if (name := OfflineName.parse(path.name)) is not None and settled(name)
    )
    for _, group in itertools.groupby(named, lambda each: each[0][:2]):
        yield [path for _, path in group]


def _merge(files: list[Path]) -> int:
    """Merge files into the first of them; returns the rows left out."""
    keep = _kept_rows(files)
    target = files[0]
    unfinished = target.with_name(f".{target.name}.part")
    schema = pq.read_schema(target)
    row = 0
    with pq.ParquetWriter(unfinished, schema, **write_options(schema)) as writer:
        pending: list[pa.RecordBatch] = []
        for path in files:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(_BATCH):
                    chosen = batch.filter(pa.array(keep[row : row + len(batch)]))
                    row += len(batch)
                    pending.append(chosen.cast(schema))
                    if sum(map(len, pending)) >= _ROW_GROUP:
                        writer.write_table(pa.Table.from_batches(pending))
                        pending = []
        if pending:
            writer.write_table(pa.Table.from_batches(pending))
    sync([unfinished])
    unfinished.replace(target)
    sync([target.parent])
    # Oldest first: what is left after a crash never ends with a row that was given again since.
    for path in files[1:]:
        path.unlink()
    return int((~keep).sum())


def _kept_rows(files: list[Path]) -> npt.NDArray[np.bool_]:
    """Which of the files' rows, one after the other, stay."""
    names = pq.read_schema(files[0]).names
    feature_rows = "event_timestamp" in names
    # A row of features stands under its key, the column after the event's id.
    keys = ["event_id", names[1] if feature_rows else "customer_id"]
    rows = pl.concat([pl.read_parquet(path, columns=keys) for path in files], how="vertical")
    stays = (
        pl.struct(keys).is_last_distinct() if feature_rows else pl.struct(keys).is_first_distinct()
    )
    flags: npt.NDArray[np.bool_] = rows.select(stays).to_series().to_numpy()
    return flags
