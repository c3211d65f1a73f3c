"""Progress of what takes more than a moment: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

PLAIN_INTERVAL = timedelta(seconds=5)


class Step(Protocol):
    """One piece of work under way."""

    def advance(self, done: int) -> None:
        """Say that so many more units are done; zero says that the work goes on."""

    def note(self, text: str) -> None:
        """Say in a few words how it went; shown when the step ends."""


class Reporter(Protocol):
    """Shows steps to a person."""

    def step(self, label: str, total: int | None = None) -> AbstractContextManager[Step]:
        """A context manager around one piece of work; `total` in units, None where unknown."""


class _BarStep:
    def __init__(self, bars: Progress, task: TaskID, label: str) -> None:
        self._bars = bars
        self._task = task
        self._label = label
        self._note = ""

    def advance(self, done: int) -> None:
        self._bars.advance(self._task, done)

    def note(self, text: str) -> None:
        self._note = text

    def finish(self, started_s: float, *, failed: bool) -> None:
        self._bars.remove_task(self._task)
        mark = "[red]x[/]" if failed else "[green]+[/]"
        took = f"[dim]{time.monotonic() - started_s:.1f} s[/]"
        self._bars.console.print(f"{mark} {self._label}  {self._note}  {took}", highlight=False)


class _Bars:
    def __init__(self, bars: Progress) -> None:
        self._bars = bars

    @contextmanager
    def step(self, label: str, total: int | None = None) -> Iterator[Step]:
        started_s = time.monotonic()
        step = _BarStep(self._bars, self._bars.add_task(label, total=total), label)
        failed = True
        try:
            yield step
            failed = False
        finally:
            step.finish(started_s, failed=failed)


class _LineStep:
    def __init__(
        self, label: str, total: int | None, stream: TextIO, monotonic_s: Callable[[], float]
    ) -> None:
        self._label = label
        self._total = total
        self._stream = stream
        self._monotonic_s = monotonic_s
        self._done = 0
        self._note = ""
        self._started_s = self._said_s = monotonic_s()

    def advance(self, done: int) -> None:
        self._done += done
        now_s = self._monotonic_s()
        if now_s - self._said_s < PLAIN_INTERVAL.total_seconds():
            return
        self._said_s = now_s
        took = f"{now_s - self._started_s:.0f} s"
        if self._total:
            share = min(1.0, self._done / self._total)
            self._say(f"{self._done:,} of {self._total:,} ({share:.0%}), {took}")
        else:
            self._say(f"{self._done:,}, {took}" if self._done else took)

    def note(self, text: str) -> None:
        self._note = text

    def finish(self, *, failed: bool) -> None:
        took = f"{self._monotonic_s() - self._started_s:.1f} s"
        self._say(f"{'failed after' if failed else self._note or 'done'} {took}".strip())

    def _say(self, text: str) -> None:
        print(f"{self._label}: {text}", file=self._stream, flush=True)


class _Lines:
    def __init__(self, stream: TextIO, monotonic_s: Callable[[], float]) -> None:
        self._stream = stream
        self._monotonic_s = monotonic_s

    @contextmanager
    def step(self, label: str, total: int | None = None) -> Iterator[Step]:
        step = _LineStep(label, total, self._stream, self._monotonic_s)
        failed = True
        try:
            yield step
            failed = False
        finally:
            step.finish(failed=failed)


@contextmanager
def reporting(
    stream: TextIO | None = None, monotonic_s: Callable[[], float] = time.monotonic
) -> Iterator[Reporter]:
    """A reporter on `stream` (standard error unless given): bars if it is a terminal, else lines.

    Plain lines come at most every `PLAIN_INTERVAL` a step, and one at its end, so that a log of
    a long run stays short.
    """
    out = stream or sys.stderr
    console = Console(file=out)
    if not console.is_terminal:
        yield _Lines(out, monotonic_s)
        return
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as bars:
        yield _Bars(bars)
