"""Sessions from the archive of events, with what each was for."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from feature_repo.contracts.events import OUTSIDE_SESSION
from feature_repo.contracts.features import SESSION_GAP
from feature_repo.contracts.settings import Settings
from training.archive import remembered, scan_archive, unreadable
from training.intents import intent_of

_COLUMNS = ("customer_id", "event_id", "event_time", "event_type", "page")


def intent_sessions(settings: Settings, end: datetime | None = None) -> pl.DataFrame:
    """One row a session of events before `end`, by customer and time.

    Columns: customer_id, started_at, last_at (its last event), over_at (when it could first be
    known to be over), intent.

    Args:
        settings: where the archive lies.
        end: aware instant; None for all events.

    Raises:
        DatasetError: there is no archive.
    """
    events = scan_archive(settings, _COLUMNS).filter(
        ~pl.col("event_type").is_in(sorted(OUTSIDE_SESSION))
    )
    if end is not None:
        events = events.filter(pl.col("event_time") < end)
    try:
        found = events.collect()
    except pl.exceptions.PolarsError as error:
        raise unreadable(settings, _COLUMNS, error) from error
    time = pl.col("event_time")
    another = (time.diff() > SESSION_GAP) | (pl.col("customer_id") != pl.col("customer_id").shift())
    return (
        # The first to come counts, as in the stream.
        remembered(found, settings)
        .unique(["customer_id", "event_id"], keep="first", maintain_order=True)
        .sort("customer_id", "event_time", maintain_order=True)
        .with_columns(session=another.fill_null(True).cum_sum())
        .group_by("session", maintain_order=True)
        .agg(
            pl.col("customer_id").first(),
            started_at=time.first(),
            last_at=time.last(),
            over_at=time.last() + SESSION_GAP,
            intent=intent_of(pl.col("event_type"), pl.col("page")),
        )
        .drop("session")
    )
