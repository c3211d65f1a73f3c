"""The archive of events as training reads it: its files, its columns, and nobody forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import polars as pl

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.settings import Settings
from feature_repo.stores.forgotten import ForgottenFile


def scan_archive(settings: Settings, columns: Sequence[str]) -> pl.LazyFrame:
    """Some columns of all events, in the order in which they were stored.

    Raises:
        DatasetError: there are no files.
    """
    return pl.scan_parquet(archive_files(settings), hive_partitioning=False).select(columns)


def archive_files(settings: Settings) -> list[Path]:
    """The archive's files, by name: within a partition of the log that is its order.

    Raises:
        DatasetError: there are none.
    """
    archive = settings.events_table
    # By name alone: the names sort in the order of the log, over all dates.
    files = sorted(
        (file for file in archive.rglob("*.parquet") if not file.name.startswith((".", "_"))),
        key=lambda file: (file.name, str(file)),
    )
    if not files:
        raise DatasetError(
            "archive of events",
            str(archive),
            "Parquet files of streamed events",
            "stream events first: daima replay FILE, or daima demo",
        )
    return files


def unreadable(settings: Settings, columns: Sequence[str], error: Exception) -> DatasetError:
    """What to say where reading failed."""
    return DatasetError(
        "archive of events",
        str(settings.events_table),
        f"Parquet files with the columns {', '.join(columns)}",
        f"remove files that are not the dataflow's; reading them failed: {error}",
    )


def remembered(events: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Without customers whose forgetting is under way; afterwards the archive lacks them."""
    forgotten = ForgottenFile(settings.offline).read().pending
    if not forgotten or events.is_empty():
        return events
    customers = events["customer_id"].to_arrow().cast("string")
    hidden = forgotten.hidden(customers, events["event_time"].dt.epoch("us").to_numpy())
    return events.filter(~pl.Series(hidden))


def check_window(start: datetime | None, end: datetime | None) -> None:
    """Hold a window to what one is.

    Raises:
        DatasetError: an instant has no time zone, or the end is not after the start.
    """
    for name, instant in (("start", start), ("end", end)):
        if instant is not None and instant.tzinfo is None:
            raise DatasetError(name, str(instant), "an instant with time zone", "append Z")
    if start is not None and end is not None and start >= end:
        raise DatasetError("start", str(start), f"an instant before end ({end})", "swap them")


def shown(start: datetime | None, end: datetime | None) -> str:
    """A window in words."""
    return f"{start or 'first event'} .. {end or 'last event'}"
