"""Computed rows of a view: in both stores, refused whole where they do not fit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.settings import Settings
from feature_repo.stores.feast_store import open_store
from feature_repo.stores.view_rows import write_view_rows
from tests.applied import apply_definitions
from tests.training.sessions import settings_at

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
REF = "customer_segment:segment"


@pytest.fixture
def home(tmp_path: Path, valkey: str) -> Settings:
    settings = settings_at(tmp_path, redis=valkey)
    apply_definitions(settings)
    return settings


def rows(segment: str, customers: int = 3) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "customer_id": [f"c{number}" for number in range(customers)],
            "segment": segment,
            "duration_position": 0.5,
            "segment_sessions": 4,
            "more": "ignored",
        }
    )


def online(settings: Settings, customer: str) -> object:
    found = open_store(settings).get_online_features([REF], [{"customer_id": customer}])
    return found.to_dict()["segment"][0]


def test_rows_are_in_both_stores(home: Settings) -> None:
    now = datetime.now(UTC)
    path = write_view_rows(home, "customer_segment", rows("long"), now)
    assert path.parent.name == f"event_date={now:%Y-%m-%d}"
    assert pl.read_parquet(path).columns == [
        "customer_id", "segment", "duration_position", "segment_sessions", "event_timestamp",
    ]  # fmt: skip
    assert online(home, "c1") == "long"
    # An older run that comes late does not take its place.
    write_view_rows(home, "customer_segment", rows("brief"), now - timedelta(hours=1))
    assert online(home, "c1") == "long"
    assert len(list(home.batch_table("customer_segment").rglob("*.parquet"))) == 2


def test_no_rows_are_a_file_without_rows(home: Settings) -> None:
    path = write_view_rows(home, "customer_segment", rows("long", 0), NOW)
    assert pl.read_parquet(path).is_empty()


@pytest.mark.parametrize(
    ("view", "frame", "words"),
    [
        ("nothing", rows("long"), "one that is applied"),
        ("customer_segment", rows("long").drop("segment"), r"\['segment'\]"),
        ("customer_segment", pl.concat([rows("long"), rows("brief")]), "one row an entity"),
    ],
)
def test_what_does_not_fit_is_not_written(
    home: Settings, view: str, frame: pl.DataFrame, words: str
) -> None:
    with pytest.raises(DatasetError, match=words):
        write_view_rows(home, view, frame, NOW)
    assert not home.batch_table(view).exists()
    assert online(home, "c1") is None
