"""From a log of events, in the order in which it was written, to sessions as they begin and close.

A session begins with the first of its events that the log brings: what is known of its customer
then is what our engine gives for that event. It closes once no event that may still come can
prolong it: half an hour of silence (`SESSION_GAP`), by a watermark that waits for events as late
as the feature set allows. Kept are the engine's states and the open sessions, whatever the log's
length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from feature_repo.contracts.events import OUTSIDE_SESSION
from feature_repo.contracts.feature_set import FeatureSet
from feature_repo.contracts.features import CUSTOMER, SESSION_GAP
from feature_repo.engine.program import compile_program
from feature_repo.engine.projection import is_type, key_texts, log_times_us
from feature_repo.engine.shard import Shard

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_BEGINNING = np.iinfo(np.int64).min // 2
_OPEN = {"customer": pl.String, "first": pl.Int64, "last": pl.Int64, "begun": pl.Int64}


@dataclass(frozen=True)
class Happened:
    """What a batch of the log did, by places: the numbers of its events in all that was read.

    A session is known by the place of the event with which it began.

    Attributes:
        begun: (b,) sessions that began, rising.
        features: (b) rows, their features as of that event.
        customers, began_us: (b,) whose, and that event's instant, µs since 1970.
        closed: (c,) sessions that closed, in the order in which they did; also of those that do
            not count, since they began too early.
        closed_at: (c,) places of the events whose instant closed them, rising.
        duration_s: (c,) from the first event to the last.
        joined: (j,) sessions that a late event has joined to an earlier one: never to be closed.
    """

    begun: Ints
    features: pl.DataFrame
    customers: pl.Series
    began_us: Ints
    closed: Ints
    closed_at: Ints
    duration_s: Floats
    joined: Ints


@dataclass
class _Partition:
    """What is kept of one partition of the log."""

    shard: Shard
    newest_us: int
    open: pl.DataFrame


class SessionStarts:
    """Reads batches of a log and tells which sessions began and which closed.

    Args:
        feature_set: whose customer features are given.
        features: which of them.
        start: sessions that begin before it do not count; events before it are folded.

    Attributes:
        events: session events read, repeated and late ones not.
        late: events that came too late for the engine, and were left out.
    """

    def __init__(
        self, feature_set: FeatureSet, features: Sequence[str], start: datetime | None = None
    ) -> None:
        self._program = compile_program(feature_set, feature_set.entity(CUSTOMER.name))
        self._features = list(features)
        us = timedelta(microseconds=1)
        self._lateness_us = feature_set.lateness // us
        self._gap_us = SESSION_GAP // us
        self._start_us = _BEGINNING if start is None else int(start.timestamp() * 1e6)
        self._partitions: dict[int, _Partition] = {}
        self._read = 0
        self.events = 0
        self.late = 0

    @property
    def open(self) -> int:
        """Sessions that may still go on."""
        return sum(each.open.height for each in self._partitions.values())

    def fold(self, partition: int, events: pa.RecordBatch) -> Happened:
        """Take in the next events of one partition, of at least the columns the engine needs.

        How the log is cut into batches changes nothing, within a partition: sessions begin and
        close at the same places.
        """
        kept = self._partitions.get(partition)
        if kept is None:
            empty = pl.DataFrame(schema=_OPEN)
            kept = self._partitions[partition] = _Partition(Shard(self._program), _BEGINNING, empty)
        newest, on_time = self._watermark(kept, events)
        begins_at, self._read = self._read, self._read + len(events)
        folded = kept.shard.fold(events.filter(pa.array(on_time)), states=False)
        place_of = begins_at + np.flatnonzero(on_time)
        row_of = np.full(len(events), -1)
        fresh = np.flatnonzero(folded.source >= 0)
        row_of[place_of[folded.source[fresh]] - begins_at] = fresh
        seen = self._session_events(events, row_of >= 0, begins_at)
        self.events += seen.height

        sessions = self._cut(pl.concat([kept.open, seen]))
        before = kept.open["begun"].to_numpy()
        begun = sessions["begun"].to_numpy()
        joined = before[~np.isin(before, begun)]
        new = sessions.filter(pl.Series(begun >= begins_at)).sort("begun")
        times_us = events.column("event_time").cast(pa.int64()).to_numpy()
        began_us = times_us[new["begun"].to_numpy() - begins_at]
        counts = began_us >= self._start_us
        new, began_us = new.filter(pl.Series(counts)), began_us[counts]

        # The newest log time less the lateness is the watermark: past it nothing can come.
        over_us = sessions["last"].to_numpy() + self._gap_us + self._lateness_us
        closed_at = np.searchsorted(newest, over_us, side="left")
        done = closed_at < len(events)
        closed = (
            sessions.with_columns(at=pl.Series(begins_at + closed_at))
            .filter(pl.Series(done))
            .sort("at", "last", "begun")
        )
        kept.open = sessions.filter(pl.Series(~done)).select(*_OPEN)
        if len(newest):
            kept.newest_us = int(newest[-1])
        rows = folded.rows.select(self._features).take(
            pa.array(row_of[new["begun"].to_numpy() - begins_at])
        )
        features = pl.from_arrow(rows)
        if not isinstance(features, pl.DataFrame):
            raise TypeError(f"{type(features)} is no frame")
        return Happened(
            begun=new["begun"].to_numpy(),
            features=features,
            customers=new["customer"],
            began_us=began_us,
            closed=closed["begun"].to_numpy(),
            closed_at=closed["at"].to_numpy(),
            duration_s=(closed["last"] - closed["first"]).to_numpy() / 1e6,
            joined=joined,
        )

    def _watermark(
        self, kept: _Partition, events: pa.RecordBatch
    ) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """The newest log time up to each event, and which events are not too late for the engine.

        The dataflow sets late ones aside by the same rule.
        """
        known = log_times_us(events)
        newest = np.maximum.accumulate(np.append(kept.newest_us, known))
        on_time = known > newest[:-1] - self._lateness_us
        self.late += int((~on_time).sum())
        return newest[1:], on_time

    def _session_events(
        self, events: pa.RecordBatch, with_row: npt.NDArray[np.bool_], begins_at: int
    ) -> pl.DataFrame:
        """Events of a session as sessions of one event; repeated events have no row and no part."""
        chosen = np.flatnonzero(with_row & ~is_type(events, OUTSIDE_SESSION))
        times_us = events.column("event_time").cast(pa.int64()).to_numpy()[chosen]
        keys = key_texts(self._program.entity, events).take(pa.array(chosen))
        return pl.DataFrame(
            {
                "customer": pl.Series(keys, dtype=pl.String),
                "first": times_us,
                "last": times_us,
                "begun": begins_at + chosen,
            },
            schema=_OPEN,
        )

    def _cut(self, parts: pl.DataFrame) -> pl.DataFrame:
        """Join what is at most the gap apart. A late event may join two open sessions: the one
        that began first in the log goes on, with what was known then."""
        ends = pl.col("last").cum_max().shift().over("customer")
        return (
            parts.sort("customer", "first", "last", "begun")
            .with_columns(begins=(pl.col("first") > ends + self._gap_us).fill_null(value=True))
            .with_columns(session=pl.col("begins").cum_sum())
            .group_by("session", maintain_order=True)
            .agg(
                pl.col("customer").first(),
                pl.col("first").min(),
                pl.col("last").max(),
                pl.col("begun").min(),
            )
            .select(*_OPEN)
        )
