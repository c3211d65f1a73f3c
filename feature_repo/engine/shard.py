"""One shard's state: what it remembers of its customers, and how a batch of events changes it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from feature_repo.contracts.errors import DaimaError
from feature_repo.contracts.features import LONGEST_WINDOW
from feature_repo.engine import columns as cols
from feature_repo.engine.columns import Encoder, session_events
from feature_repo.engine.evaluate import ROW_SCHEMA, SortedEvents

# How much older than the newest event an event may be and still be folded in.
ALLOWED_LATENESS = timedelta(hours=24)
SNAPSHOT_VERSION = 1
_US = timedelta(microseconds=1)
_LATENESS_US = ALLOWED_LATENESS // _US
_RETENTION_US = (LONGEST_WINDOW + ALLOWED_LATENESS) // _US


@dataclass(frozen=True)
class FeatureRows:
    """What a batch of events changed, both of `ROW_SCHEMA`.

    Attributes:
        events: one row a new session event, as of that event (for the offline store).
        latest: one row a touched customer, as of its latest event (for the online store).
        duplicates: events left out because their customer and id had come before.
    """

    events: pa.RecordBatch
    latest: pa.RecordBatch
    duplicates: int


class Shard:
    """The retained events of one shard's customers.

    Give every event of a customer to the same shard. Events may arrive out of order, up to
    `ALLOWED_LATENESS` behind; a repeated event id changes nothing.
    """

    def __init__(self) -> None:
        self._encoder = Encoder()
        self._history = cols.empty()
        self._watermark_us = 0
        self._folded = 0

    def fold(self, batch: pa.RecordBatch) -> FeatureRows | None:
        """Fold in a batch of `EVENT_SCHEMA`, the next of the log; None if no row is a session's.

        Events of one instant keep the order in which they are folded in.
        """
        batch = session_events(batch)
        if not len(batch):
            return None
        new = self._encoder.encode(batch, self._folded)
        self._folded += len(batch)
        touched = np.zeros(len(self._encoder.customers.names), dtype=np.bool_)
        touched[new["slot"]] = True
        known = touched[self._history["slot"]]
        together = cols.concat(cols.take(self._history, known), new)
        kept = len(together["slot"]) - len(new["slot"])

        # History comes first, so of a customer's two events with one id the earlier arrival stays.
        _, distinct = np.unique(cols.identity(together), return_index=True)
        distinct.sort()
        events = SortedEvents(cols.take(together, distinct), self._encoder)

        source_row = distinct[events.order] - kept  # row in `batch`; negative = from history
        fresh = np.flatnonzero(source_row >= 0)
        # Offline rows keep the order of the log; online rows are one a customer.
        fresh = fresh[np.argsort(source_row[fresh], kind="stable")]
        rows = np.concatenate([fresh, events.latest_rows()])
        from_batch = pa.array(source_row[rows], mask=source_row[rows] < 0)
        both = events.features(rows, batch.column("event_id").take(from_batch))

        self._watermark_us = max(self._watermark_us, int(new["time"].max()))
        keep = events.retained(
            self._watermark_us - _RETENTION_US, self._watermark_us - _LATENESS_US
        )
        self._history = cols.concat(
            cols.take(self._history, ~known), cols.take(events.columns, keep)
        )
        return FeatureRows(
            both.slice(0, len(fresh)), both.slice(len(fresh)), len(batch) - len(fresh)
        )

    @property
    def customers(self) -> int:
        """How many customers the shard knows."""
        return len(self._encoder.customers.names)

    def snapshot(self) -> dict[str, Any]:
        """Plain data to build an equal shard from; shares no array with the live state."""
        return {
            "version": SNAPSHOT_VERSION,
            "features": ROW_SCHEMA.names,
            "watermark_us": self._watermark_us,
            "folded": self._folded,
            "names": self._encoder.names(),
            "history": {name: column.copy() for name, column in self._history.items()},
        }

    @classmethod
    def restore(cls, snapshot: dict[str, Any]) -> Shard:
        """Build a shard from a snapshot.

        Raises:
            DaimaError: the snapshot is of another format or feature set.
        """
        if (snapshot["version"], snapshot["features"]) != (SNAPSHOT_VERSION, ROW_SCHEMA.names):
            raise DaimaError(
                "snapshot",
                f"version {snapshot['version']}",
                f"version {SNAPSHOT_VERSION} with today's features",
                "remove the recovery folder and replay the events",
            )
        shard = cls()
        shard._encoder = Encoder(snapshot["names"])
        shard._history = {name: column.copy() for name, column in snapshot["history"].items()}
        shard._watermark_us = snapshot["watermark_us"]
        shard._folded = snapshot["folded"]
        return shard
