"""Our offline store's join against Feast's DuckDB store: equal rows, equal values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.data_format import ParquetFormat
from feast.types import Float64, Int64, String
from polars.testing import assert_frame_equal

from feature_repo.contracts.errors import DatasetError

OURS = "feature_repo.stores.offline.PolarsOfflineStore"
# ibis says this to DuckDB; only Feast's own store goes through it.
pytestmark = pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")

START = datetime(2025, 3, 1, tzinfo=UTC)
TTL = timedelta(minutes=30)
MICROSECOND = timedelta(microseconds=1)
REFS = ["short:visits", "short:page", "forever:visits_total", "forever:rate", "pair:spend"]


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def store(home: Path, offline: str) -> FeatureStore:
    """Three views: one with a TTL, one without, one with two join keys."""
    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
    corridor = Entity(name="corridor", join_keys=["corridor"], value_type=ValueType.STRING)

    def view(name: str, entities: list[Entity], ttl: timedelta, *fields: Field) -> FeatureView:
        source = FileSource(
            name=f"{name}_rows",
            path=str(home / name),
            file_format=ParquetFormat(),
            timestamp_field="event_timestamp",
        )
        return FeatureView(
            name=name, entities=entities, ttl=ttl, schema=list(fields), source=source
        )

    views = [
        view(
            "short",
            [customer],
            TTL,
            Field(name="visits", dtype=Int64),
            Field(name="page", dtype=String),
        ),
        view(
            "forever",
            [customer],
            timedelta(0),
            Field(name="visits_total", dtype=Int64),
            Field(name="rate", dtype=Float64),
        ),
        view("pair", [customer, corridor], timedelta(days=1), Field(name="spend", dtype=Int64)),
    ]
    (home / offline).mkdir()
    opened = FeatureStore(
        config=RepoConfig(
            project="join",
            provider="local",
            registry={"path": str(home / offline / "registry.db")},
            online_store={"type": "sqlite", "path": str(home / offline / "online.db")},
            offline_store={"type": offline},
            entity_key_serialization_version=3,
            repo_path=home,
        )
    )
    opened.apply([customer, corridor, *views])
    return opened


def write(home: Path, name: str, rows: pl.DataFrame) -> None:
    """Half of the rows in each of two date folders."""
    for part, frame in enumerate((rows.head(len(rows) // 2), rows.slice(len(rows) // 2))):
        folder = home / name / f"event_date=2025-03-0{part + 1}"
        folder.mkdir(parents=True)
        frame.write_parquet(folder / "rows.parquet")


def write_views(home: Path, short: pl.DataFrame) -> None:
    write(home, "short", short)
    stamps = short.select("customer_id", "event_timestamp")
    numbers = pl.int_range(pl.len())
    write(
        home,
        "forever",
        stamps.with_columns(visits_total=numbers, rate=numbers.cast(pl.Float64) / 7),
    )
    write(
        home,
        "pair",
        stamps.with_columns(
            spend=numbers, corridor=pl.when(numbers % 2 == 0).then(pl.lit("GB-NG"))
        ),
    )


def short_rows(rows: list[tuple[str | None, datetime, int | None]]) -> pl.DataFrame:
    return pl.DataFrame(
        rows,
        schema={
            "customer_id": pl.String,
            "event_timestamp": pl.Datetime("us", "UTC"),
            "visits": pl.Int64,
        },
        orient="row",
    ).with_columns(page=pl.format("p{}", "visits"))


def asked(rows: list[tuple[str | None, datetime]], corridor: str | None = "GB-NG") -> pd.DataFrame:
    stamps = pd.to_datetime(pd.Series([instant for _, instant in rows]), utc=True)
    return pd.DataFrame(
        {
            "customer_id": pd.Series([name for name, _ in rows], dtype=object),
            "corridor": pd.Series([corridor] * len(rows), dtype=object),
            "event_timestamp": stamps.dt.as_unit("us"),
            "order": range(len(rows)),
        }
    )


def join(opened: FeatureStore, entities: pd.DataFrame, refs: list[str] = REFS) -> pl.DataFrame:
    table = opened.get_historical_features(entity_df=entities.copy(), features=refs).to_arrow()
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame.with_columns(pl.col("customer_id", "corridor").cast(pl.String))


def test_random_rows_join_as_in_duckdb(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    # Distinct minutes: of two rows at one instant, DuckDB's store picks either.
    minutes = rng.choice(4_000, 1_500, replace=False)
    names = [f"c{number}" if number < 40 else None for number in rng.integers(0, 42, 1_500)]
    write_views(
        tmp_path,
        short_rows(
            [
                (name, at(float(minute)), None if minute % 11 == 0 else int(minute))
                for name, minute in zip(names, minutes, strict=True)
            ]
        ),
    )
    # Whole minutes meet feature rows exactly, and exactly one TTL later.
    when = np.where(rng.random(3_000) < 0.5, rng.integers(-60, 4_100, 3_000), rng.random() * 4_000)
    who = [f"c{number}" if number < 44 else None for number in rng.integers(0, 46, 3_000)]
    entities = asked([(name, at(float(minute))) for name, minute in zip(who, when, strict=True)])
    entities["corridor"] = rng.choice(np.array(["GB-NG", "US-MX", None], dtype=object), 3_000)

    ours, theirs = (join(store(tmp_path, kind), entities) for kind in (OURS, "duckdb"))
    assert ours["order"].to_list() == list(range(3_000))  # all rows, in their order
    assert_frame_equal(ours, theirs.sort("order"))
    assert 0 < ours["visits"].null_count() < 3_000
    assert 0 < ours["spend"].null_count() < 3_000


def test_edges_of_the_ttl_and_rows_nobody_can_see(tmp_path: Path) -> None:
    write_views(tmp_path, short_rows([("a", at(0), 1), ("a", at(10), 2), ("future", at(99), 3)]))
    entities = asked(
        [
            ("a", at(0)),  # at the very instant: known
            ("a", at(0) - MICROSECOND),  # only in the future
            ("a", at(10) + TTL),  # exactly as old as the TTL
            ("a", at(10) + TTL + MICROSECOND),
            ("future", at(50)),
            ("nobody", at(50)),
            (None, at(50)),
        ]
    )
    ours, theirs = (join(store(tmp_path, kind), entities) for kind in (OURS, "duckdb"))
    assert_frame_equal(ours, theirs.sort("order"))
    assert ours["visits"].to_list() == [1, None, 2, None, None, None, None]
    assert ours["visits_total"].to_list() == [0, None, 1, 1, None, None, None]


def test_the_row_just_within_the_ttl_is_still_read(tmp_path: Path) -> None:
    # The earliest instant asked for decides how far back the store reads.
    write_views(tmp_path, short_rows([("a", at(0), 1), ("a", at(10), 2)]))
    frame = join(store(tmp_path, OURS), asked([("a", at(10) + TTL)]))
    assert frame["visits"].to_list() == [2]


def test_of_rows_at_one_instant_the_last_stored_wins(tmp_path: Path) -> None:
    rows = [(f"c{who}", at(who), visit) for who in range(300) for visit in (1, 2, 3)]
    write_views(tmp_path, short_rows([*rows]))
    entities = asked([(f"c{who}", at(who + late)) for who in range(300) for late in (0, 5)])
    assert join(store(tmp_path, OURS), entities)["visits"].to_list() == [3] * 600


def test_a_key_that_is_missing_throughout(tmp_path: Path) -> None:
    write_views(tmp_path, short_rows([("a", at(0), 1), ("a", at(1), 2)]))
    frame = join(store(tmp_path, OURS), asked([("a", at(2))] * 3, corridor=None))
    assert frame["spend"].to_list() == [None] * 3
    assert frame["visits"].to_list() == [2] * 3


def test_names_and_pandas_as_in_duckdb(tmp_path: Path) -> None:
    write_views(tmp_path, short_rows([("a", at(0), 1), ("b", at(1), 2)]))
    entities = asked([("a", at(2)), ("b", at(2))])
    frames = []
    for kind in (OURS, "duckdb"):
        job = store(tmp_path, kind).get_historical_features(
            entity_df=entities.copy(), features=REFS[:3], full_feature_names=True
        )
        frames.append(job.to_df().sort_values("order").reset_index(drop=True))
        assert job.metadata.features == REFS[:3]
        assert job.metadata.max_event_timestamp == at(2)
    assert list(frames[0].columns)[-3:] == ["short__visits", "short__page", "forever__visits_total"]
    ours, theirs = frames
    pd.testing.assert_frame_equal(ours, theirs, check_dtype=False)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    opened = store(tmp_path, OURS)
    with pytest.raises(DatasetError, match=r"short is .*: expected Parquet files"):
        join(opened, asked([("a", at(0))]))


def test_a_table_without_the_feature(tmp_path: Path) -> None:
    opened = store(tmp_path, OURS)
    write_views(tmp_path, short_rows([("a", at(0), 1)] * 2).drop("page"))
    with pytest.raises(DatasetError, match="write the table again"):
        join(opened, asked([("a", at(0))]))
