"""`daima rebuild`: the online store refilled from everything the log remembers."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from feature_repo.contracts.errors import DaimaError
from feature_repo.contracts.settings import Settings
from infra.progress import reporting
from infra.stack_file import settings_at

if TYPE_CHECKING:
    from streaming.rebuild import RebuildReport

ARCHIVE, LOG = "archive", "log"  # what a history may be, beside files


def run_rebuild(
    home: Path | None, definitions: Path | None, history: str, source: str, *, as_json: bool
) -> None:
    """The command.

    Args:
        history: `archive`, `log` (nothing but the live log), or an event file or a folder of them.
        source: which live log, `valkey` or `kafka`.

    Raises:
        CheckpointError: a stream runs.
        DefinitionError: the definitions are wrong.
        InputError: there are no events, or a file is no event file.
        StoreUnavailableError: the store or the log does not answer.
    """
    found, _ = settings_at(home, os.environ)
    settings = replace(found, definitions=definitions.resolve()) if definitions else found
    from streaming.backfill.source import event_source
    from streaming.live_logs import Source
    from streaming.rebuild import rebuild

    if source not in set(Source):
        known = ", ".join(Source)
        raise DaimaError("--source", source, known, "choose one of these")
    path = _history(history, settings)
    total = event_source(path).events if path else None
    with (
        reporting() as reporter,
        reporter.step("Folding the history and the log", total) as step,
    ):
        report = rebuild(settings, path, source=Source(source), progress=step.advance)
        step.note(f"{sum(report.keys.values()):,} keys written")
    _print(report, as_json=as_json)


def _history(history: str, settings: Settings) -> Path | None:
    from streaming.rebuild import archive_of

    if history == ARCHIVE:
        return archive_of(settings)
    return None if history == LOG else Path(history)


def _print(report: RebuildReport, *, as_json: bool) -> None:
    counts = {
        "keys": sum(report.keys.values()),
        **{f"{entity}_keys": keys for entity, keys in report.keys.items()},
        "events": report.archived + report.of_log,
        "events_only_in_log": report.of_log,
        "copies_left_out": report.repeated,
        "dead_letters": report.dead_letters,
        "generation": report.generation,
        "seconds": round(report.seconds, 1),
        "events_per_s": round((report.archived + report.of_log) / report.seconds),
    }
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in counts.items():
        table.add_row(name.replace("_", " "), f"{value:,}")
    Console(width=None if os.isatty(1) else 120).print(table)
    if as_json:
        print(json.dumps(counts))
