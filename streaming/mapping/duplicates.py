"""Rows whose event id an earlier row has: found on disk, since ids may outgrow memory."""

from __future__ import annotations

import os
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt

MEMORY = "256MB"
# Each thread wants memory of its own, however little there is.
_THREADS = 4


def duplicate_rows(staged: Path, row_column: str, spill: Path) -> npt.NDArray[np.int64]:
    """The source rows, rising, that repeat an event id of an earlier row.

    A row may have several events, each with its id. `staged` is a Parquet file with the columns
    `event_id` and `row_column`; `spill` is a folder for
    temporary files. Aggregates and joins only: they spill to disk well (10 M ids, all twice, within
    256 MB), where DuckDB 2.0's sort, and so its windows, runs out of memory.
    """
    config = {
        "memory_limit": MEMORY,
        "threads": str(min(_THREADS, os.cpu_count() or 1)),
        "temp_directory": str(spill),
        "preserve_insertion_order": "false",
        "autoinstall_known_extensions": "false",  # nothing here needs the network
    }
    quoted = str(staged).replace("'", "''")
    with duckdb.connect(config=config) as db:
        db.execute(
            f"CREATE VIEW staged AS SELECT event_id, {row_column} AS source_row"
            f" FROM read_parquet('{quoted}')"
        )
        # Hashes first: 8 bytes an event; only ids whose hash occurs twice are looked at.
        db.execute(
            "CREATE TEMP TABLE repeated AS SELECT hash(event_id) AS id_hash FROM staged"
            " GROUP BY id_hash HAVING count(*) > 1"
        )
        db.execute(
            "CREATE TEMP TABLE candidates AS SELECT event_id, source_row"
            " FROM staged SEMI JOIN repeated ON hash(event_id) = id_hash"
        )
        found = db.sql(
            "SELECT source_row FROM candidates JOIN"
            " (SELECT event_id, min(source_row) AS first FROM candidates GROUP BY event_id) AS ids"
            " USING (event_id) WHERE source_row > first"
        ).to_arrow_reader(65_536)
        rows = [batch.column(0).to_numpy() for batch in found]
    return np.unique(np.concatenate(rows)) if rows else np.empty(0, np.int64)
