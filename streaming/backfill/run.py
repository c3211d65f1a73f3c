"""Runs a backfill: one row of features an event."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from feature_repo.contracts.feature_set import FeatureSet
from feature_repo.engine.program import compile_program
from streaming.backfill.parts import PART_EVENTS, Job, held
from streaming.backfill.processes import write_shares
from streaming.backfill.share import BackfillReport, Share
from streaming.backfill.source import Source


def backfill(
    source: Source,
    feature_set: FeatureSet,
    out: Path,
    *,
    letters: Path | None = None,
    processes: int = 1,
    part_events: int = PART_EVENTS,
    progress: Callable[[int], None] = lambda events: None,
) -> BackfillReport:
    """Write one row of features an event to `out`, as Parquet parts in log order.

    A row has the event's id, the key of every entity (null where it has none), its time and every
    feature of the set, over the events up to it in (event time, log order). Labels and repeated
    events have no row. Interrupted, it goes on where it was: parts that are there are kept, and
    their events are folded again without being written.

    Args:
        letters: file of dead letters for events that come too late; None drops them.
        processes: each writes the rows of its share of the first entity's keys, into parts of its
            own; all fold the other entities' events.
        progress: called with the number of events just folded.

    Raises:
        InputError: `out` holds something else, or another process works in it.
        ShareError: one of several processes failed.

    Trap: with several processes a part's rows are those of one share, still in log order; order
    by event_time to have all of them in it.
    """
    started_s = time.monotonic()
    job = Job(
        source.fingerprint,
        {key.name: compile_program(feature_set, key).fingerprint for key in feature_set.entities},
        processes=processes,
        part_events=part_events,
    )
    shares = [
        Share(source, feature_set, out, job, which, None if which else letters)
        for which in range(processes)
    ]
    with held(out, job):
        report = shares[0].write(progress) if processes == 1 else write_shares(shares, progress)
    report.seconds = time.monotonic() - started_s
    return report
