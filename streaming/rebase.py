"""When which partition's state is copied whole, and the copying, a little between two polls."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta

from feature_repo.engine.shard import Shard
from feature_repo.engine.state_copy import Snapshotting
from streaming.log.frames import Partition
from streaming.updates import Snapshot

# Events of a partition folded since its last base, after which a restart would take too long:
# 0.4 s of folding, of each of 4 partitions.
REBASE_EVENTS = 250_000
# And epochs, each a file: a quiet stream is rebased about once in ten minutes.
REBASE_EPOCHS = 60
# Writing a base of 100 MB takes a moment, too: two of them begin this far apart.
_REBASES_AN_EPOCH = 10
# A copy goes on for this long at a time, and then not for some times as long.
_STEP_S = 0.003
_REST_S = 0.012


class Rebase:
    """Chooses when which partition's state is copied whole, one at a time, and copies it.

    Args:
        epoch: time from one barrier to the next.
        events: folded since the last base of each partition, from its checkpoint.
        most: such events, after which a partition is copied.
    """

    def __init__(
        self, epoch: timedelta, events: Mapping[Partition, int], most: int = REBASE_EVENTS
    ) -> None:
        self._events = dict(events)
        self._most = most
        self._epochs = dict.fromkeys(events, 0)
        self._apart_s = epoch.total_seconds() / _REBASES_AN_EPOCH
        self._next_s = self._next_step_s = 0.0
        self._copying: Snapshotting | None = None
        self._last: Snapshot | None = None
        self._forgets: dict[Partition, tuple[str, ...]] = {}

    def forget(self, owned: Partition, keys: tuple[str, ...]) -> None:
        """Have a partition copied soon, for a base that stands alone, without the events before."""
        self._forgets[owned] = (*self._forgets.get(owned, ()), *keys)

    def folded(self, owned: Partition, events: int) -> None:
        """Count events."""
        self._events[owned] = self._events.get(owned, 0) + events

    def epoch_ended(self, partitions: Iterable[Partition]) -> None:
        """Count an epoch of partitions, for those that have had events since their base."""
        for owned in partitions:
            self._epochs[owned] = self._epochs.get(owned, 0) + bool(self._events.get(owned))

    def due(self, now_s: float) -> Partition | None:
        """The partition to copy now, if any."""
        if self._forgets:
            return next(iter(self._forgets))
        if now_s < self._next_s:
            return None
        due = [
            owned
            for owned, events in self._events.items()
            if events >= self._most or self._epochs.get(owned, 0) >= REBASE_EPOCHS
        ]
        if not due:
            return None
        self._next_s = now_s + self._apart_s
        chosen = max(due, key=lambda owned: (self._events[owned], owned))
        self._events[chosen] = self._epochs[chosen] = 0
        return chosen

    def step(self, shards: Mapping[Partition, Shard]) -> list[Snapshot]:
        """Begin, go on with or end a copy: what is to flow on for it.

        Call it between batches of events. A copy is as of the call that began it.
        """
        now_s = time.monotonic()
        if self._copying is None or self._last is None:
            return self._begin(shards, now_s)
        if self._copying.spoiled:
            self._events[self._last.owned] += self._most  # due again
            if self._last.forgets:
                self.forget(self._last.owned, self._last.forgets)
            self._copying = self._last = None
        elif now_s >= self._next_step_s and self._copied(self._copying, now_s + _STEP_S):
            self._last = replace(self._last, state=self._copying.result())
            self._copying = None
            return [self._last]
        return []

    def _begin(self, shards: Mapping[Partition, Shard], now_s: float) -> list[Snapshot]:
        # While a base is being written, no other one takes up memory.
        if self._last is not None and not self._last.written.is_set():
            return []
        owned = self.due(now_s)
        if owned is None:
            return []
        forgets = self._forgets.pop(owned, ())
        self._copying, self._last = shards[owned].copying(), Snapshot(owned, forgets=forgets)
        return [self._last]

    def _copied(self, copying: Snapshotting, until_s: float) -> bool:
        """Copy until an instant; whether that was the rest."""
        while not copying.step():
            if (now_s := time.monotonic()) >= until_s:
                self._next_step_s = now_s + _REST_S
                return False
        return True
