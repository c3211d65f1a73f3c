"""What a daily table says of customers last, read from its files: for labels, not for models.

Models take features as of an instant, through Feast.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from feature_repo.contracts.features import CUSTOMER
from feature_repo.contracts.settings import Settings
from feature_repo.stores.view_rows import EVENT_TIMESTAMP

# View and feature.
CORRIDOR = ("customer_profile", "main_corridor")
SEGMENT = ("customer_segment", "segment")
_DAYS = 31  # folders of a daily table that are looked through for a customer's latest row


def latest_files(settings: Settings, view: str) -> list[Path]:
    """The files of a table's latest days, in order."""
    folders = sorted(settings.batch_table(view).glob("event_date=*"))[-_DAYS:]
    return [path for folder in folders for path in sorted(folder.glob("*.parquet"))]


def latest_labels(customers: pl.Series, paths: Sequence[Path], feature: str) -> pl.Series:
    """A feature of each customer as text, as of its latest row; null where there is none.

    Args:
        customers: (n,) ids; null gives null.
        paths: of `latest_files`.
    """
    key = CUSTOMER.join_key
    if not paths:
        return pl.Series(feature, [None] * len(customers), dtype=pl.String)
    latest = (
        pl.scan_parquet(list(paths), hive_partitioning=False)
        .select(pl.col(key, feature).cast(pl.String), EVENT_TIMESTAMP)
        .sort(EVENT_TIMESTAMP, maintain_order=True)
        .unique(key, keep="last")
        .collect()
    )
    wanted = customers.to_frame(key)
    return wanted.join(latest, on=key, how="left", maintain_order="left")[feature]
