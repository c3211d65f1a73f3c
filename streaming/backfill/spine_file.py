"""Features as of the rows of a file: read it, answer it, write every row of it back with them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa

from feature_repo.contracts.errors import InputError
from feature_repo.contracts.feature_set import FeatureSet
from feature_repo.engine.program import compile_program
from feature_repo.stores.stream_history import Spine, features_at, needed_columns
from streaming.backfill.parts import Job, Parts, held, table_file
from streaming.backfill.share import BackfillReport
from streaming.backfill.source import Source

TIME_COLUMN = "event_timestamp"


def read_spine(path: Path, feature_set: FeatureSet) -> pa.Table:
    """The rows of a spine: Parquet or CSV with key columns and `event_timestamp`.

    Instants without a zone are UTC. All other columns are kept as they are.

    Raises:
        InputError: it cannot be read, or lacks a key or the instants.
    """
    keys = {entity.join_key: pl.String for entity in feature_set.entities}
    action = f"write {', '.join(keys)} and {TIME_COLUMN} as Parquet or CSV with a header"
    try:
        if path.suffix.lower() in {".csv", ".gz"}:
            frame = pl.read_csv(path, schema_overrides=keys, infer_schema_length=10_000)
        else:
            frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError("spine", str(path), f"rows that can be read ({error})", action) from error
    if TIME_COLUMN not in frame.columns or not keys.keys() & set(frame.columns):
        raise InputError("spine", frame.columns, f"{TIME_COLUMN} and a key column", action)
    taken = [o.name for e in feature_set.entities for o in feature_set.outputs_of(e)]
    if repeated := sorted(set(taken) & set(frame.columns)):
        raise InputError("spine", repeated, "no columns named as features", "rename or drop them")
    if frame.schema[TIME_COLUMN] == pl.String:
        try:
            frame = frame.with_columns(
                pl.col(TIME_COLUMN).str.to_datetime(time_unit="us", time_zone="UTC")
            )
        except pl.exceptions.PolarsError as error:
            raise InputError(TIME_COLUMN, str(path), "ISO 8601 instants", str(error)) from error
    return frame.to_arrow()


def backfill_spine(
    source: Source,
    feature_set: FeatureSet,
    spine_file: Path,
    out: Path,
    *,
    progress: Callable[[int], None] = lambda events: None,
) -> BackfillReport:
    """Write the spine's rows, in their order, with the features as of each to one file in `out`.

    Only entities whose key is a column of the spine have features in it. The whole spine is held
    in memory, the events are not.

    Raises:
        InputError: the spine is none, or `out` holds something else.
    """
    started_s = time.monotonic()
    rows = read_spine(spine_file, feature_set)
    spine = Spine.of(feature_set, rows, TIME_COLUMN)
    programs = [compile_program(feature_set, feature_set.entity(name)) for name in spine.keys]
    job = Job(
        source.fingerprint,
        {program.entity.name: program.fingerprint for program in programs},
        spine=hashlib.sha256(spine_file.read_bytes()).hexdigest()[:16],
    )
    report = BackfillReport(rows=rows.num_rows)

    def read(events: int) -> None:
        report.events += events
        progress(events)

    def late(events: pa.RecordBatch, places: object) -> None:
        report.late += len(events)

    with held(out, job):
        parts = Parts(out, job)
        if parts.path(0).exists():
            report.parts_kept = 1
        else:
            batches = source.batches(needed_columns(programs), feature_set, late)
            answers = features_at(programs, batches, spine, read)
            whole = rows
            for name in answers.column_names:
                whole = whole.append_column(answers.field(name), answers.column(name))
            with table_file(parts.unfinished(0), whole.schema) as writer:
                writer.write_table(whole)
            parts.finish(0)
            report.parts = 1
    report.seconds = time.monotonic() - started_s
    return report
