"""`daima replay`: a file of events of one's own into both stores."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from feature_repo.contracts.settings import Settings
from infra.progress import Reporter, reporting
from infra.stack_file import settings_at
from infra.store_choice import online_store
from infra.streaming_steps import stream_file

if TYPE_CHECKING:
    from streaming.mapping.ingest import IngestReport
    from streaming.report import StreamReport


def run_replay(
    source: Path,
    mapping_file: Path,
    rates_file: Path | None,
    home: Path | None,
    definitions: Path | None = None,
    *,
    embedded: bool,
    as_json: bool,
) -> None:
    """`daima replay FILE --mapping M`: map, sort by event time, stream into both stores.

    Raises:
        MappingError: the mapping file is wrong, or does not fit the source.
        InputError: the source or the exchange rates cannot be read.
    """
    started_s = time.monotonic()
    from feature_repo.contracts.money import DEFAULT_RATES, ExchangeRates
    from streaming.mapping.dead_letters import DeadLetters, source_stem
    from streaming.mapping.ingest import ingest
    from streaming.mapping.spec import Mapping

    mapping = Mapping.load(mapping_file)
    rates = ExchangeRates(rates_file or DEFAULT_RATES)
    # Mapped before a store is looked for: most mistakes show here.
    settings, _ = settings_at(home, os.environ)
    events = settings.log / f"{source_stem(source)}.parquet"
    with reporting() as reporter:
        with DeadLetters.for_source(settings.dead_letters, source) as letters:
            percent = _Percent(reporter)
            with percent:
                ingested = ingest(source, mapping, events, rates, letters, progress=percent)
        with online_store(home, embedded=embedded) as found:
            settings = found
            if definitions is not None:
                settings = replace(found, definitions=definitions.resolve())
            streamed = stream_file(reporter, events, settings)
    counts = _ingest_counts(ingested, letters.path) | stream_counts(streamed)
    counts["dead_letters"] = ingested.dead_letters + streamed.dead_letters
    counts["event_file"] = str(events)
    counts["seconds"] = round(time.monotonic() - started_s, 1)
    if ingested.by_reason:
        _print_reasons(ingested, letters.path)
    print_counts(counts, settings, as_json=as_json)


class _Percent:
    """Turns ingestion's (stage, fraction) into one step a stage, in per cent."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._stage = ""
        self._context: Any = None
        self._step: Any = None
        self._done = 0

    def __call__(self, stage: str, fraction: float) -> None:
        if stage != self._stage:
            self.__exit__()
            self._stage, self._done = stage, 0
            self._context = self._reporter.step(f"{stage.capitalize()} events (%)", 100)
            self._step = self._context.__enter__()
        percent = int(fraction * 100)
        self._step.advance(max(0, percent - self._done))
        self._done = max(self._done, percent)

    def __enter__(self) -> _Percent:
        return self

    def __exit__(self, *error: object) -> None:
        if self._context is not None:
            self._context.__exit__(*(error or (None, None, None)))
            self._context = None


def _ingest_counts(report: IngestReport, letters: Path) -> dict[str, Any]:
    def instant(value: Any) -> str | None:
        return None if value is None else value.isoformat()

    return {
        "rows": report.rows_read,
        "labels": report.labels,
        "skipped": report.skipped,
        "dead_letter_file": str(letters) if report.dead_letters else None,
        "dead_letters_by_reason": [
            {"field": field, "reason": reason, "count": count}
            for (field, reason), count in report.by_reason.items()
        ],
        "first_event_time": instant(report.first_event_time),
        "last_event_time": instant(report.last_event_time),
        "empty_columns": list(report.empty_columns),
    }


def stream_counts(report: StreamReport) -> dict[str, Any]:
    """A report as the counts that are printed."""
    return {
        "events": report.events,
        "rows_online": report.rows_online,
        "duplicates": report.duplicates,
        "dead_letters": report.dead_letters,
        "events_per_s": round(report.events_per_s, 1),
        "seconds": round(report.seconds, 1),
    }


_LABELS = {
    "rows": "rows read",
    "skipped": "rows skipped as the mapping says",
    "dead_letters": "dead letters",
    "events": "events streamed",
    "duplicates": "of them duplicates",
    "rows_online": "rows written online",
    "events_per_s": "events a second (dataflow)",
    "first_event_time": "first event",
    "last_event_time": "last event",
    "event_file": "event file",
    "dead_letter_file": "dead-letter file",
    "seconds": "seconds in all",
}


def print_counts(counts: dict[str, Any], settings: Settings, *, as_json: bool) -> None:
    """Print counts as a table and, if wanted, as one JSON object on the last line."""
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, label in _LABELS.items():
        value = counts.get(name)
        if value is not None:
            number = isinstance(value, int | float)
            table.add_row(label, f"{value:,}" if number else str(value))
    table.add_row("offline store", str(settings.offline))
    _console().print(table)
    if counts.get("empty_columns"):
        columns = ", ".join(counts["empty_columns"])
        print(f"columns that the mapping reads and that hold nothing: {columns}")
    if as_json:
        print(json.dumps(counts))


def _print_reasons(report: IngestReport, letters: Path) -> None:
    table = Table(title=f"dead letters, in {letters}")
    table.add_column("field")
    table.add_column("expected")
    table.add_column("rows", justify="right")
    for (field, reason), count in report.by_reason.items():
        table.add_row(field, reason, f"{count:,}")
    _console().print(table)


def _console() -> Console:
    return Console(width=None if os.isatty(1) else 120)
