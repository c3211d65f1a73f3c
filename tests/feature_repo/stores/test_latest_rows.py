"""The latest of a daily table: a label a customer, in the order they are asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from feature_repo.contracts.settings import Settings
from feature_repo.stores.latest_rows import SEGMENT, latest_files, latest_labels
from tests.training.sessions import settings_at

VIEW, FEATURE = SEGMENT
START = datetime(2026, 3, 2, tzinfo=UTC)


def write(settings: Settings, day: int, rows: dict[str, str | None]) -> None:
    at = START + timedelta(days=day)
    folder = settings.batch_table(VIEW) / f"event_date={at:%Y-%m-%d}"
    folder.mkdir(parents=True)
    pl.DataFrame(
        {"customer_id": list(rows), FEATURE: list(rows.values()), "event_timestamp": at},
        schema_overrides={FEATURE: pl.String},
    ).write_parquet(folder / f"{VIEW}.parquet")


def labels(settings: Settings, *customers: str | None) -> list[str | None]:
    asked = pl.Series(customers, dtype=pl.String)
    return latest_labels(asked, latest_files(settings, VIEW), FEATURE).to_list()


def test_each_customer_has_the_latest_row_s(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    assert latest_files(settings, VIEW) == []
    assert labels(settings, "a", "b") == [None, None]
    write(settings, 1, {"a": "long", "b": "usual", "c": None})
    write(settings, 0, {"a": "brief", "d": "brief"})
    assert labels(settings, "d", "a", None, "c", "e", "b") == [
        "brief", "long", None, None, None, "usual"
    ]  # fmt: skip


def test_rows_of_long_ago_are_not_looked_for(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    for day in range(32):
        write(settings, day, {"old" if day == 0 else "new": "long"})
    assert len(latest_files(settings, VIEW)) == 31
    assert labels(settings, "old", "new") == [None, "long"]
