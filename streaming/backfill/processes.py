"""The shares of a backfill, each written by a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait

from feature_repo.contracts.errors import DaimaError
from streaming.backfill.share import BackfillReport, Share

# A forked process has everything loaded, which takes a new one more than a second: as long as
# folding a million events. No thread survives a fork, but a share asks for none: its kernels and
# files run in its own, Arrow starts pools of threads anew, and Polars, which does not, is not used.
_CONTEXT = (
    multiprocessing.get_context("fork")
    if sys.platform == "linux"
    else multiprocessing.get_context("spawn")
)


class ShareError(DaimaError):
    """One of a backfill's processes failed."""


def write_shares(shares: Sequence[Share], progress: Callable[[int], None]) -> BackfillReport:
    """Write the missing parts of all shares at once; the processes end with this one.

    Each process reads all events: those of its share of the keys it folds for the first entity,
    all of them for the others, which are few. `progress` follows the first process.

    Raises:
        ShareError: one of them failed; the others are stopped, what they have finished stays.
    """
    processes = []
    total = BackfillReport()
    listening: dict[Connection, int] = {}
    try:
        for number, share in enumerate(shares):
            ours, theirs = _CONTEXT.Pipe(duplex=False)
            process = _CONTEXT.Process(
                target=_write, args=(theirs, share, os.getpid()), daemon=True
            )
            process.start()
            theirs.close()
            processes.append(process)
            listening[ours] = number
        while listening:
            ready = wait(list(listening))
            for end in [end for end in listening if end in ready]:
                report = _heard(end, listening[end], progress)
                if report is not None:
                    _add(total, report, first=listening.pop(end) == 0)
    finally:
        for process in processes:
            process.terminate()
            process.join()
    return total


def _heard(end: Connection, number: int, progress: Callable[[int], None]) -> BackfillReport | None:
    """Take in one message: events folded, what went wrong, or the report at the end."""
    again = "run the same command again: it goes on where it was"
    try:
        said = end.recv()
    except EOFError:
        raise ShareError(f"process {number}", "gone", "a report", again) from None
    if isinstance(said, str):
        raise ShareError(f"process {number}", said, "a report", again)
    if isinstance(said, BackfillReport):
        return said
    if number == 0:
        progress(said)
    return None


def _add(total: BackfillReport, report: BackfillReport, *, first: bool) -> None:
    total.rows += report.rows
    total.parts += report.parts
    total.parts_kept += report.parts_kept
    if first:  # all read all events
        total.events, total.late = report.events, report.late


def _write(parent: Connection, share: Share, parent_id: int) -> None:
    """One process: its share, word by word to the parent, and no longer than the parent lives."""

    def progress(events: int) -> None:
        if os.getppid() != parent_id:
            os._exit(1)  # what is unfinished is computed anew
        parent.send(events)

    try:
        parent.send(share.write(progress))
    except Exception as error:  # the parent tells the person
        parent.send(f"{type(error).__name__}: {error}")
    # Without the end of an interpreter: what the parent had begun, in files and otherwise, is its.
    os._exit(0)
