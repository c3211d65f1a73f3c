"""`daima backfill`: features of the past, a row an event or as of the rows of a spine."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from infra.progress import Reporter, reporting
from infra.stack_file import settings_at

if TYPE_CHECKING:
    from streaming.backfill import Source

WORK = ".work"
LETTERS = "_dead_letters"


def run_backfill(
    events: Path,
    out: Path,
    *,
    definitions: Path | None,
    mapping: Path | None,
    rates: Path | None,
    spine: Path | None,
    processes: int,
    as_json: bool,
) -> None:
    """The command.

    Raises:
        DefinitionError: a definition is wrong.
        InputError: the events, the spine or the output folder are not what they should be.
        MappingError: the mapping file is wrong, or does not fit the source.
    """
    from feature_repo.contracts.feature_set import load_feature_set
    from streaming.backfill import backfill, backfill_spine, event_source
    from streaming.mapping.dead_letters import source_stem

    feature_set = load_feature_set(definitions)
    settings, _ = settings_at(None, os.environ)
    # Who was forgotten stays so wherever daima's own files are read or written.
    ours = any(settings.home in path.resolve().parents for path in (events, out))
    offline = settings.offline if ours else None
    with reporting() as reporter:
        if mapping is None:
            source = event_source(events, offline)
        else:
            source = _mapped(reporter, events, mapping, rates, out, offline)
        with reporter.step("Backfilling events", source.events) as step:
            if spine is not None:
                report = backfill_spine(source, feature_set, spine, out, progress=step.advance)
            else:
                report = backfill(
                    source,
                    feature_set,
                    out,
                    letters=out / LETTERS / f"{source_stem(events)}.late.jsonl",
                    processes=processes,
                    progress=step.advance,
                )
            step.note(f"{report.events:,} events")
    shutil.rmtree(out / WORK, ignore_errors=True)
    _print(
        {
            "events": report.events,
            "rows": report.rows,
            "late": report.late,
            "parts_written": report.parts,
            "parts_kept": report.parts_kept,
            "seconds": round(report.seconds, 1),
            "events_per_s": round(report.events_per_s),
            "out": str(out),
        },
        as_json=as_json,
    )


def _mapped(  # noqa: PLR0917
    reporter: Reporter,
    events: Path,
    mapping: Path,
    rates: Path | None,
    out: Path,
    offline: Path | None,
) -> Source:
    from feature_repo.contracts.money import DEFAULT_RATES
    from streaming.backfill import mapped_source
    from streaming.mapping.dead_letters import DeadLetters

    letters = DeadLetters.for_source(out / LETTERS, events)
    done = 0
    with reporter.step("Mapping and sorting events (%)", 100) as step:

        def progress(stage: str, fraction: float) -> None:
            nonlocal done
            percent = int(fraction * 50) + (50 if stage == "sorting" else 0)
            step.advance(max(0, percent - done))
            done = max(done, percent)

        source = mapped_source(
            events,
            mapping,
            rates or DEFAULT_RATES,
            work=out / WORK,
            dead_letters=letters,
            progress=progress,
            offline=offline,
        )
    if letters.count:
        print(f"{letters.count:,} rows are no events: {letters.path}")
    return source


_LABELS = {
    "events": "events read",
    "rows": "rows written",
    "late": "events that came too late",
    "parts_written": "parts written",
    "parts_kept": "parts there already",
    "events_per_s": "events a second",
    "seconds": "seconds in all",
    "out": "output",
}


def _print(counts: dict[str, Any], *, as_json: bool) -> None:
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, label in _LABELS.items():
        value = counts[name]
        table.add_row(label, f"{value:,}" if isinstance(value, int | float) else str(value))
    Console(width=None if os.isatty(1) else 120).print(table)
    if as_json:
        print(json.dumps(counts))
