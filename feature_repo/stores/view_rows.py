"""Rows of a batch feature view, into both stores: the offline file first, then the online values.

For whoever computes such rows (segments, predictions): one call, which repeated changes nothing.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import polars as pl
from feast import FeatureStore
from feast.errors import FeatureViewNotFoundException

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.events import to_epoch_us
from feature_repo.contracts.settings import Settings
from feature_repo.stores.feast_store import open_store

EVENT_TIMESTAMP = "event_timestamp"


def write_view_rows(settings: Settings, view: str, rows: pl.DataFrame, at: datetime) -> Path:
    """Write rows that hold from an instant on; returns the offline file.

    Online, a row replaces an older one of its entity and never a newer one.

    Args:
        view: an applied batch view; its file is `event_date=.../<view>-<instant>.parquet`.
        rows: its join keys and features, a row an entity.
        at: aware instant, every row's event time.

    Raises:
        DatasetError: the view is not applied, a column is missing, or an entity comes twice.
        StoreUnavailableError: the online store does not answer; the offline file is written then.
    """
    store = open_store(settings)
    frame, path = _write(store, settings, view, rows, at)
    if frame.height:
        store.write_to_online_store(view, df=frame.to_pandas())
    return path


def write_offline_rows(settings: Settings, view: str, rows: pl.DataFrame, at: datetime) -> Path:
    """The offline file alone, for rows of the past; arguments and errors as above."""
    return _write(open_store(settings), settings, view, rows, at)[1]


def written(settings: Settings, view: str, at: datetime) -> bool:
    """Whether there are offline rows of an instant."""
    folder = settings.batch_table(view) / f"event_date={at:%Y-%m-%d}"
    return (folder / _file_name(view, at)).is_file()


def _write(
    store: FeatureStore, settings: Settings, view: str, rows: pl.DataFrame, at: datetime
) -> tuple[pl.DataFrame, Path]:
    try:
        found = store.get_feature_view(view)
    except FeatureViewNotFoundException as error:
        raise DatasetError("view", view, "one that is applied", "run: feast apply") from error
    keys = [store.get_entity(name).join_key for name in found.entities]
    wanted = [*keys, *(field.name for field in found.features)]
    missing = [name for name in wanted if name not in rows.columns]
    if missing:
        raise DatasetError(f"rows of {view}", missing, f"columns {wanted}", "compute them")
    if rows.select(keys).is_duplicated().any():
        raise DatasetError(f"rows of {view}", keys, "one row an entity", "aggregate them")
    stamp = pl.lit(at).cast(pl.Datetime("us", "UTC")).alias(EVENT_TIMESTAMP)
    frame = rows.select(*wanted, stamp)
    folder = settings.batch_table(view) / f"event_date={at:%Y-%m-%d}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _file_name(view, at)
    unfinished = path.with_name(f".{path.name}.part")
    frame.write_parquet(unfinished)
    unfinished.replace(path)
    return frame, path


def _file_name(view: str, at: datetime) -> str:
    return f"{view}-{to_epoch_us(at)}.parquet"
