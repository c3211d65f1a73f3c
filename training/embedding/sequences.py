"""Customers' sequences from the archive of events: sessions, and apart from them snapshots."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from feature_repo.contracts.events import OUTSIDE_SESSION, EventType, to_epoch_us
from feature_repo.contracts.features import SESSION_GAP
from feature_repo.contracts.settings import Settings
from feature_repo.scoring.embedding_sessions import Ints, Names, Sessions, segments
from training.archive import remembered, scan_archive, unreadable
from training.intents import INTENTS, intent_of

GAP_US = int(SESSION_GAP.total_seconds() * 1_000_000)
_COLUMNS = (
    "customer_id",
    "event_id",
    "event_time",
    "event_type",
    "page",
    "amount_ref_minor",
    "send_country",
    "receive_country",
)


@dataclass(frozen=True)
class Sequences:
    """All sessions of some customers, one customer behind the other, by time.

    Attributes:
        customer_id: (customers,) in order.
        offsets: (customers + 1,) where each one's sessions begin; nobody is without any.
        sessions: with the snapshots that came with each.
        intent: (sessions,) place in INTENTS of what each was for.
    """

    customer_id: pl.Series
    offsets: Ints
    sessions: Sessions
    intent: Ints

    @property
    def customer(self) -> Ints:
        """Each session's customer, as a place in `customer_id`: (sessions,)."""
        return np.repeat(np.arange(len(self.customer_id)), np.diff(self.offsets))

    @property
    def over_us(self) -> Ints:
        """When each session could first be known to be over: (sessions,)."""
        return self.sessions.end_us + GAP_US

    def until(self, end_us: int) -> Sequences:
        """What was known at an instant: the sessions that were over, and who had any."""
        over = self.over_us <= end_us
        counts = np.bincount(self.customer[over], minlength=len(self.customer_id))
        return self.first(counts)

    def first(self, counts: Ints) -> Sequences:
        """Each customer's first so many sessions: (customers,) counts; 0 leaves a customer out."""
        rows, _ = segments(
            np.stack([self.offsets[:-1], self.offsets[:-1] + counts], axis=1).ravel(),
            2 * np.arange(len(counts)),
        )
        there = np.flatnonzero(counts)
        return Sequences(
            self.customer_id.gather(there),
            np.cumsum(np.concatenate([[0], counts[there]])).astype(np.int64),
            self.sessions.at(rows),
            self.intent[rows],
        )


def archived_sequences(settings: Settings, end: datetime | None = None) -> Sequences:
    """The sequences of all customers, from events before `end` (aware; None: all).

    Raises:
        DatasetError: there is no archive.
    """
    return sequences_of(archived_events(settings, end))


def archived_events(
    settings: Settings, end: datetime | None = None, customers: pl.Series | None = None
) -> pl.DataFrame:
    """The events that sequences are made of, in the order of the log.

    Args:
        settings: where the archive lies.
        end: those before it (aware; None: all).
        customers: whose (None: everybody's).

    Raises:
        DatasetError: there is no archive.
    """
    events = scan_archive(settings, _COLUMNS)
    if end is not None:
        events = events.filter(pl.col("event_time") < end)
    if customers is not None:
        events = events.filter(pl.col("customer_id").is_in(customers.unique().implode()))
    try:
        found = events.collect()
    except pl.exceptions.PolarsError as error:
        raise unreadable(settings, _COLUMNS, error) from error
    return remembered(found, settings)


def sequences_of(events: pl.DataFrame, end: datetime | None = None) -> Sequences:
    """The sequences of events in the order of the log.

    Sessions are those of `training.intent_sessions`: half an hour of silence ends one, what happens
    outside sessions neither opens nor prolongs one, of events with one id the first counts. A
    snapshot belongs to the first session that ends at its instant or later; those of which there is
    none yet, or that carry no balance, are left out.
    """
    events = events.select(_COLUMNS)
    if end is not None:
        events = events.filter(pl.col("event_time") < end)
    time = pl.col("event_time")
    another = (time.diff() > SESSION_GAP) | (pl.col("customer_id") != pl.col("customer_id").shift())
    inside = (
        events.filter(~pl.col("event_type").is_in(sorted(OUTSIDE_SESSION)))
        .unique(["customer_id", "event_id"], keep="first", maintain_order=True)
        .sort("customer_id", "event_time", maintain_order=True)
        .with_columns(session=another.fill_null(True).cum_sum())
    )
    by_session = inside.group_by("session", maintain_order=True).agg(
        pl.col("customer_id").first(),
        last_at=time.last(),
        events=pl.len(),
        intent=intent_of(pl.col("event_type"), pl.col("page")),
    )
    places = {name: place for place, name in enumerate(INTENTS)}
    counts = by_session.group_by("customer_id", maintain_order=True).agg(sessions=pl.len())
    snapshots, came_with = _snapshots(events, by_session)
    return Sequences(
        counts["customer_id"],
        _offsets(counts["sessions"].to_numpy()),
        Sessions(
            _offsets(by_session["events"].to_numpy()),
            inside["event_time"].dt.epoch("us").to_numpy(),
            _names(inside["event_type"]),
            _names(inside["page"]),
            inside["amount_ref_minor"].cast(pl.Float64).fill_null(np.nan).to_numpy(),
            _names(inside["send_country"]),
            _names(inside["receive_country"]),
            _offsets(came_with),
            snapshots["event_time"].dt.epoch("us").to_numpy(),
            snapshots["amount_ref_minor"].cast(pl.Float64).to_numpy(),
        ),
        by_session["intent"].replace_strict(places, return_dtype=pl.Int64).to_numpy(),
    )


def instant_us(instant: datetime) -> int:
    """Microseconds since 1970 of an aware instant."""
    return to_epoch_us(instant)


def _snapshots(events: pl.DataFrame, sessions: pl.DataFrame) -> tuple[pl.DataFrame, Ints]:
    """Balances by customer and time, and how many came with each session."""
    numbered = sessions.select(
        "customer_id", "last_at", number=pl.int_range(pl.len(), dtype=pl.Int64)
    )
    shots = (
        events.filter(
            (pl.col("event_type") == str(EventType.FINANCIAL_SNAPSHOT))
            & pl.col("amount_ref_minor").is_not_null()
        )
        .unique(["customer_id", "event_id"], keep="first", maintain_order=True)
        .sort("event_time", maintain_order=True)
        .join_asof(
            numbered.sort("last_at", maintain_order=True),
            left_on="event_time",
            right_on="last_at",
            by="customer_id",
            strategy="forward",
            check_sortedness=False,  # by customer it cannot be; both are sorted just here
        )
        .drop_nulls("number")
        .sort("number", "event_time", maintain_order=True)
    )
    counts = np.bincount(shots["number"].to_numpy(), minlength=sessions.height)
    return shots, counts.astype(np.int64)


def _offsets(counts: Ints) -> Ints:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _names(column: pl.Series) -> Names:
    known = column.drop_nulls().unique().sort()
    places = pl.DataFrame({"name": known}).with_row_index("place")
    codes = (
        column.to_frame("name")
        .join(places, on="name", how="left", maintain_order="left")["place"]
        .cast(pl.Int32)
        .fill_null(-1)
    )
    return Names(codes.to_numpy(), tuple(known))
