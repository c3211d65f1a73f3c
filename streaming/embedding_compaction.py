"""Compaction of customers' vectors: a finished day's small files become one a version."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import date
from itertools import groupby
from pathlib import Path

import polars as pl

from feature_repo.contracts.features import CUSTOMER
from feature_repo.stores.view_rows import EVENT_TIMESTAMP
from streaming.offline_files import sync

_DAY = "event_date="


def compact_vectors(
    table: Path, before: date, progress: Callable[[int], None] = lambda files: None
) -> tuple[int, int, int]:
    """Merge each version's files of the days before `before`; files before and after, rows dropped.

    Every row stays but those written twice (one customer and instant: the last). Readers may read
    on meanwhile; broken off between the merged file and the others' going, rows are there twice,
    which changes no answer, until it is run again.

    Args:
        table: the offline rows of vectors or of states (`EmbeddingWriter` names their files).

    Trap: hold `rewriting` meanwhile: beside a forgetting, its customer's rows might come back.
    """
    files_before = files_after = dropped = 0
    for folder in sorted(table.glob(f"{_DAY}*")):
        if date.fromisoformat(folder.name.removeprefix(_DAY)) >= before:
            continue
        for prefix, some in groupby(sorted(folder.glob("*.parquet")), key=_prefix):
            files = list(some)
            if len(files) > 1:
                files_before += len(files)
                files_after += 1
                dropped += _merge(folder, prefix, files)
            progress(len(files))
    return files_before, files_after, dropped


def _prefix(path: Path) -> str:
    """View and version: `customer_embedding-v000001-`."""
    return path.name[: path.name.rindex("-") + 1]


def _merge(folder: Path, prefix: str, files: list[Path]) -> int:
    # The later written lasts: names are hashes, and say nothing of when.
    files.sort(key=lambda path: path.stat().st_mtime_ns)
    rows = pl.concat([pl.read_parquet(path, hive_partitioning=False) for path in files])
    kept = rows.unique([CUSTOMER.join_key, EVENT_TIMESTAMP], keep="last", maintain_order=True).sort(
        EVENT_TIMESTAMP, maintain_order=True
    )
    names = hashlib.blake2b("\n".join(path.name for path in files).encode(), digest_size=8)
    merged = folder / f"{prefix}{names.hexdigest()}.parquet"
    unfinished = merged.with_name(f".{merged.name}.part")
    kept.write_parquet(unfinished)
    sync([unfinished])
    unfinished.replace(merged)
    sync([folder])
    for path in files:
        path.unlink(missing_ok=True)
    sync([folder])
    return rows.height - kept.height
