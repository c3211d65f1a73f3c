"""`daima compact`: a finished day's small offline files become one a partition."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

from infra.progress import reporting
from infra.stack_file import settings_at


def run_compact(home: Path | None, now: datetime | None = None, *, as_json: bool) -> None:
    """The command: the archive of events and every entity's live rows, of the days before today.

    Raises:
        DefinitionError: a definition is wrong.
    """
    from feature_repo.contracts.feature_set import load_feature_set
    from streaming.compaction import compact_tables

    settings, _ = settings_at(home, os.environ)
    feature_set = load_feature_set(settings.definitions)
    # An event may come so much later than others of its day.
    before = ((now or datetime.now(UTC)) - feature_set.lateness).date()
    with reporting() as reporter, reporter.step("Compacting offline files") as step:
        reports = compact_tables(settings, feature_set, before, step.advance)
    counts = {
        name: {
            "files_before": report.files_before,
            "files_after": report.files_after,
            "rows_dropped": report.rows_dropped,
        }
        for name, report in reports.items()
    }
    for name, count in counts.items():
        print(
            f"{name}: {count['files_before']:,} files became {count['files_after']:,}, "
            f"{count['rows_dropped']:,} rows given twice dropped"
        )
    if as_json:
        print(json.dumps(counts))
