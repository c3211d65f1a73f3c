"""Shadow scoring: fed what the champion was fed; its scores are logged, never returned.

All of it happens in a thread of its own, at a low priority, after the answer has gone. The queue is
bounded: when the shadow cannot keep up, batches are dropped and counted.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from time import perf_counter

import numpy as np

from serving.metrics import Metrics
from serving.models import ServedModel, Vector
from serving.online import OnlineReader
from serving.routing import SHADOW
from serving.scored import Observer, ScoredBatch
from serving.vectors import NO_CONTEXT

log = logging.getLogger(__name__)

# Woken by the clock, not by each request: waking a thread costs the event loop more than the
# request's own share of the scoring.
EVERY = timedelta(milliseconds=50)
# Between two of these chunks the event loop gets Python's lock.
CHUNK = 16
FETCH_TIMEOUT = timedelta(seconds=2)
Fetch = Callable[[ServedModel, ScoredBatch], Awaitable[Vector]]
_MEANING = {
    "scored": "scored",
    "dropped": "did not score since too many waited",
    "failed": "failed to score",
}


@dataclass
class ShadowCounts:
    """What became of customers whom a shadow should have scored.

    Attributes:
        scored: they were.
        dropped: the queue was full.
        failed: the model raised, or its inputs could not be had.
        busy_s: seconds spent scoring.
    """

    scored: int = 0
    dropped: int = 0
    failed: int = 0
    busy_s: float = 0.0


class Shadow:
    """An observer of scored batches that has the shadow score them too.

    Args:
        observers: are told of every batch that a shadow scored, from the shadow's thread.
        fetch: reads the inputs of a shadow that differ from those of the version that answered
            (on the event loop, after the answer); without it such a shadow scores nothing.
        waiting: customers that may wait.
    """

    def __init__(
        self, observers: Sequence[Observer] = (), fetch: Fetch | None = None, waiting: int = 10_000
    ) -> None:
        self.observers = list(observers)
        self.counts = ShadowCounts()
        self._fetch = fetch
        self._most = waiting
        # Customers put in and taken out: each is written by one thread alone.
        self._put = self._taken = 0
        self._queue: deque[tuple[ServedModel, ScoredBatch]] = deque()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told: set[tuple[str, str]] = set()
        self._same: tuple[ServedModel | None, ServedModel | None, bool] = (None, None, False)

    def __call__(self, batch: ScoredBatch) -> None:
        """Put a batch in the queue if its model has a shadow; a full queue drops it."""
        shadow = batch.line.shadows.get(batch.model)
        if shadow is None:
            return
        count = len(batch.customers)
        if self._put - self._taken > self._most - count:
            self.counts.dropped += count
            return
        self._put += count
        self._queue.append((shadow, batch))

    def show(self, metrics: Metrics) -> None:
        """Add what became of the shadow's customers to the metrics."""
        for outcome in ("scored", "dropped", "failed"):
            metrics.watch(
                f"daima_shadow_{outcome}",
                f"Customers whom a shadow {_MEANING[outcome]}",
                partial(getattr, self.counts, outcome),
                rising=True,
            )

    def start(self) -> None:
        """Begin to score; on the event loop on which `fetch` reads."""
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:  # outside of one there is nothing to read on
            self._loop = None
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._thread.start()

    def stop(self, wait: timedelta = timedelta(seconds=2)) -> None:
        """Score no more; what waits is dropped."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(wait.total_seconds())

    def _run(self) -> None:
        if sys.platform == "linux":  # where a thread has a priority of its own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        while not self._stopping.wait(EVERY.total_seconds()):
            while self._queue and not self._stopping.is_set():
                self.drain(CHUNK)

    def drain(self, most: int) -> int:
        """Score up to so many waiting batches; how many there were. For the shadow's thread."""
        groups: dict[int, tuple[ServedModel, list[ScoredBatch], list[Vector]]] = {}
        taken = 0
        began = perf_counter()
        while self._queue and taken < most:
            shadow, batch = self._queue.popleft()
            taken += 1
            try:
                matrix = self._matrix(shadow, batch)
            except Exception as error:  # a shadow's trouble is nobody's but its own
                self._fail(shadow, [batch], error)
            else:
                _, batches, matrices = groups.setdefault(id(shadow), (shadow, [], []))
                batches.append(batch)
                matrices.append(matrix)
        # All of a version's at once: a row costs a fifth of what it costs alone.
        for shadow, batches, matrices in groups.values():
            try:
                found = self._score(shadow, batches, np.concatenate(matrices))
            except Exception as error:
                self._fail(shadow, batches, error)
            else:
                for batch in found:
                    self.counts.scored += len(batch.customers)
                    self._taken += len(batch.customers)
                    self._observe(batch)
        self.counts.busy_s += perf_counter() - began
        return taken

    def _matrix(self, shadow: ServedModel, batch: ScoredBatch) -> Vector:
        """What the shadow is fed: shape (n, its width)."""
        if shadow is not self._same[0] or batch.served is not self._same[1]:
            # Of fifty inputs each, so kept for the next batch.
            self._same = shadow, batch.served, shadow.inputs == batch.served.inputs
        if self._same[2]:
            return batch.matrix
        if self._fetch is None or self._loop is None:
            raise RuntimeError("its inputs are not those of the version that answers")
        found = asyncio.run_coroutine_threadsafe(self._read(shadow, batch), self._loop)
        return found.result(FETCH_TIMEOUT.total_seconds())

    def _score(
        self, shadow: ServedModel, batches: Sequence[ScoredBatch], matrix: Vector
    ) -> list[ScoredBatch]:
        scores, predictions, probabilities, classes, anomalies = shadow.score(matrix)
        if not np.isfinite(scores).all():
            raise ArithmeticError("a score that is no number")
        found, start = [], 0
        for batch in batches:
            part = slice(start, start + len(batch.customers))
            start = part.stop
            found.append(
                replace(
                    batch,
                    served=shadow,
                    matrix=matrix[part],
                    scores=scores[part].tolist(),
                    predictions=predictions[part].tolist(),
                    probabilities=None if probabilities is None else probabilities[part].tolist(),
                    classes=None if classes is None else classes[part].tolist(),
                    anomalies=None if anomalies is None else anomalies[part].tolist(),
                    decisions=None,
                )
            )
        return found

    def _fail(self, shadow: ServedModel, batches: Sequence[ScoredBatch], error: Exception) -> None:
        for batch in batches:
            self.counts.failed += len(batch.customers)
            self._taken += len(batch.customers)
        key = shadow.name, shadow.version
        if key not in self._told:
            self._told.add(key)
            log.warning("%s@%s version %s fails: %s", shadow.name, SHADOW, shadow.version, error)

    async def _read(self, shadow: ServedModel, batch: ScoredBatch) -> Vector:
        if self._fetch is None:
            raise RuntimeError("nothing reads")
        return await self._fetch(shadow, batch)

    def _observe(self, batch: ScoredBatch) -> None:
        for observer in self.observers:
            try:
                observer(batch)
            except Exception:
                log.exception("an observer of the shadow failed on %s", batch.request_id)


def shadow_fetch(reader: OnlineReader, clock: Callable[[], datetime]) -> Fetch:
    """Reads a shadow's own inputs as a champion's are read: same customers, instant and request.

    Trap: it reads a moment later than the answer did; a batch value written meanwhile is newer.
    """

    async def fetch(shadow: ServedModel, batch: ScoredBatch) -> Vector:
        reading = reader.vectors(shadow, clock).read(
            batch.customers,
            batch.at,
            batch.asked_corridor,
            batch.counterparty,
            batch.context or NO_CONTEXT,
        )
        return (await reading).matrix

    return fetch
