"""Ingest a file of one's own events: from a source and its mapping to the file log."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import polars as pl

from feature_repo.contracts.errors import InputError
from feature_repo.contracts.money import ExchangeRates
from streaming.mapping.apply import map_batch
from streaming.mapping.dead_letters import DeadLetters, source_stem
from streaming.mapping.event_file import StagedEvents
from streaming.mapping.readers import read_batches
from streaming.mapping.spec import Mapping

# Stage ("mapping", "sorting") and how much of it is done, 0..1.
Progress = Callable[[str, float], None]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class IngestReport(msgspec.Struct, frozen=True):
    """What became of every row of a source.

    `rows_read == events - labels + skipped + dead_letters`.

    Attributes:
        events: events written, labels included.
        labels: label events that rows gave beside their own (a mapping with `label:`).
        by_reason: (field, reason) -> dead letters, the most frequent first.
        first_event_time, last_event_time: of the events written; None without any.
        empty_columns: columns that the mapping reads and that held no value in any row.
        seconds: wall-clock time it took.
    """

    rows_read: int
    events: int
    labels: int
    skipped: int
    dead_letters: int
    by_reason: dict[tuple[str, str], int]
    first_event_time: datetime | None
    last_event_time: datetime | None
    empty_columns: tuple[str, ...]
    seconds: float


def ingest(
    source: Path,
    mapping: Mapping,
    out: Path,
    rates: ExchangeRates,
    dead_letters: DeadLetters,
    *,
    progress: Progress | None = None,
) -> IngestReport:
    """Turn a source file into `out`: Parquet of `EVENT_SCHEMA` by (log time, source row).

    An event's log time is its own, a label's that of its arrival. Memory stays bounded whatever
    the file's size; temporary files stand beside `out` and need a few times its size. `out` appears
    whole at the end or, after an error, not at all. Closing `dead_letters` is the caller's (use it
    in a `with`).

    Raises:
        InputError: the source cannot be read; `MappingError`: the mapping does not fit it.

    Trap: an event id is checked against this file only; two files may hold the same event.
    """
    started = time.perf_counter()
    report_progress = progress or (lambda stage, fraction: None)
    if out.resolve() == source.resolve():
        raise InputError("out", str(out), "another file than the source", "name another")
    batches = read_batches(source, mapping)
    out.parent.mkdir(parents=True, exist_ok=True)
    letters_before = dead_letters.count
    rows_read = skipped = 0
    empty = set(mapping.columns)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        with StagedEvents(folder) as staged:
            for raw in batches:
                mapped = map_batch(raw, mapping, rates, source_stem(source))
                rows_read += raw.frame.height + len(raw.broken)
                skipped += mapped.skipped
                empty -= {name for name in empty if _has_value(raw.frame[name])}
                staged.append(mapped.events, mapped.rows)
                if mapping.label is not None:
                    staged.append(mapped.labels, mapped.label_rows, labels=True)
                dead_letters.extend(mapped.letters)
                report_progress("mapping", raw.fraction)
            report_progress("sorting", 0.0)  # nothing to report until the first sorted row
            written = staged.write_sorted(
                folder / "events.parquet",
                dead_letters.extend,
                lambda fraction: report_progress("sorting", fraction),
            )
        (folder / "events.parquet").replace(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return IngestReport(
        rows_read=rows_read,
        events=written.events,
        labels=written.labels,
        skipped=skipped,
        dead_letters=dead_letters.count - letters_before,
        by_reason=dict(dead_letters.by_reason.most_common()),
        first_event_time=_instant(written.first_us),
        last_event_time=_instant(written.last_us),
        empty_columns=tuple(name for name in mapping.columns if name in empty),
        seconds=time.perf_counter() - started,
    )


def _has_value(column: pl.Series) -> bool:
    present = column.count() > 0
    return present and not (column.dtype == pl.String and (column == "").all())


def _instant(epoch_us: int | None) -> datetime | None:
    return None if epoch_us is None else _EPOCH + timedelta(microseconds=epoch_us)
