"""How long the feature log keeps what it has: folders of days that are over are removed."""

from __future__ import annotations

import logging
import shutil
from datetime import date
from pathlib import Path

log = logging.getLogger(__name__)

_DAY = "date="


def remove_before(folder: Path, first_kept: date) -> int:
    """Remove the days before a date, of every model; how many folders there were.

    What is no folder of a day is left alone, and what cannot be removed is tried again next time.

    Args:
        folder: `feature_log` in daima's home: `MODEL/date=YYYY-MM-DD/*.parquet`.
        first_kept: UTC, as the folders are named.

    Trap: blocks on the disk; for the thread that writes the log.
    """
    removed = 0
    for day in sorted(folder.glob(f"*/{_DAY}*")):
        try:
            found = date.fromisoformat(day.name.removeprefix(_DAY))
        except ValueError:
            continue
        if found >= first_kept or not day.is_dir():
            continue
        try:
            shutil.rmtree(day)
        except FileNotFoundError:  # another process of this home removes it too
            continue
        except OSError as error:
            log.warning("a day of the feature log cannot be removed: %s", error)
            continue
        removed += 1
    return removed
