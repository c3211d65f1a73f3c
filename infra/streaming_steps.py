"""The dataflow over an event file, with its progress; shared by demo, stream and replay."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from feature_repo.contracts.settings import Settings
from infra.progress import Reporter

if TYPE_CHECKING:
    from streaming.report import StreamReport


def stream_file(reporter: Reporter, events: Path, settings: Settings) -> StreamReport:
    """Run the dataflow over an event file.

    Raises:
        InputError: it is no event file.
        StoreUnavailableError: the online store does not answer.
    """
    with reporter.step("Loading the dataflow"):
        from streaming.log.files import open_event_file
        from streaming.run import run_file

        file = open_event_file(events)
        rows = file.metadata.num_rows
        file.close()
    with reporter.step("Streaming into both stores", rows) as step:
        report = run_file(events, settings, progress=step.advance)
        step.note(f"{report.events:,} events, {report.events_per_s:,.0f} events/s")
    return report
