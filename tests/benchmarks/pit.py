"""Point-in-time joins through Feast's API: our offline store beside Feast's DuckDB store.

    python -m tests.benchmarks.pit [--json] [--quick]

200,000 entity rows on two views of 1,000,000 rows each (customers: 8 features, a TTL of 30 days;
corridors: 4 features, none), as Parquet by date. Both stores in one run, in turns, one request
each a turn: `get_historical_features(...).to_df()`. Rows and values must be the same; no two
feature rows of a key have one instant, since DuckDB's choice among them is random. The last line
is one JSON object: `ratio` (median seconds of theirs / ours), `seconds`, `rows`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.data_format import ParquetFormat
from feast.types import Float64, Int64, String
from polars.testing import assert_frame_equal

from tests.benchmarks.machine import commit, hardware

STORES = {"duckdb": "duckdb", "ours": "feature_repo.stores.offline.PolarsOfflineStore"}
ROWS, ENTITY_ROWS, TURNS = 1_000_000, 200_000, 5
CUSTOMERS, CORRIDORS, DAYS = 50_000, 2_000, 60
START = datetime(2025, 3, 1, tzinfo=UTC)
_DAY_US = 86_400_000_000


def instants(rng: np.random.Generator, keys: np.ndarray) -> pl.Series:
    """An instant a row, no two of one key the same."""
    slots = np.empty(len(keys), np.int64)
    order = np.argsort(keys, kind="stable")
    first = np.r_[0, np.flatnonzero(np.diff(keys[order])) + 1]
    rank = np.arange(len(keys)) - np.repeat(first, np.diff(np.r_[first, len(keys)]))
    slots[order] = rank
    most = int(slots.max()) + 1
    width = DAYS * _DAY_US // most
    at_us = int(START.timestamp()) * 1_000_000 + slots * width + rng.integers(0, width, len(keys))
    return pl.Series("event_timestamp", at_us).cast(pl.Datetime("us", "UTC"))


def write_view(
    folder: Path, name: str, key: str, keys: list[str], features: dict[str, Any]
) -> None:
    """A million rows by date, in no order of keys."""
    rng = np.random.default_rng(len(name))
    which = rng.integers(0, len(keys), len(next(iter(features.values()))))
    frame = pl.DataFrame({key: pl.Series(keys).gather(which), **features}).with_columns(
        instants(rng, which)
    )
    for (date,), part in frame.group_by(pl.col("event_timestamp").dt.date()):
        day = folder / name / f"event_date={date}"
        day.mkdir(parents=True)
        part.write_parquet(day / f"{name}.parquet")


def make(folder: Path, rows: int) -> tuple[list[Any], list[str]]:
    """The views' files, and the objects to apply."""
    rng = np.random.default_rng(1)
    customers = [f"c{number:06d}" for number in range(CUSTOMERS)]
    corridors = [f"k{number:04d}" for number in range(CORRIDORS)]
    write_view(
        folder, "profile", "customer_id", customers,
        {f"amount_{n}": rng.integers(0, 10**6, rows) for n in range(4)}
        | {f"rate_{n}": rng.random(rows) for n in range(3)}
        | {"band": pl.Series(["18-24", "25-34", "55+"]).gather(rng.integers(0, 3, rows))},
    )  # fmt: skip
    write_view(
        folder, "costs", "corridor", corridors,
        {f"cost_{n}": rng.random(rows) for n in range(3)}
        | {"providers": rng.integers(0, 40, rows)},
    )  # fmt: skip
    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
    corridor = Entity(name="corridor", join_keys=["corridor"], value_type=ValueType.STRING)

    def view(name: str, entity: Entity, ttl: timedelta, fields: dict[str, Any]) -> FeatureView:
        return FeatureView(
            name=name,
            entities=[entity],
            ttl=ttl,
            schema=[Field(name=field, dtype=dtype) for field, dtype in fields.items()],
            source=FileSource(
                name=f"{name}_rows",
                path=str(folder / name),
                file_format=ParquetFormat(),
                timestamp_field="event_timestamp",
            ),
        )

    fields = {
        "profile": {f"amount_{n}": Int64 for n in range(4)}
        | {f"rate_{n}": Float64 for n in range(3)}
        | {"band": String},
        "costs": {f"cost_{n}": Float64 for n in range(3)} | {"providers": Int64},
    }
    made: list[Any] = [
        customer,
        corridor,
        view("profile", customer, timedelta(days=30), fields["profile"]),
        view("costs", corridor, timedelta(0), fields["costs"]),
    ]
    return made, [f"{name}:{field}" for name, some in fields.items() for field in some]


def entity_rows(count: int) -> pd.DataFrame:
    """Entity rows over the whole time, some before any feature row."""
    rng = np.random.default_rng(5)
    at_us = int(START.timestamp()) * 1_000_000 + rng.integers(0, DAYS * _DAY_US, count)
    return pl.DataFrame(
        {
            "row": np.arange(count),
            "customer_id": pl.Series([f"c{n:06d}" for n in rng.integers(0, CUSTOMERS, count)]),
            "corridor": pl.Series([f"k{n:04d}" for n in rng.integers(0, CORRIDORS, count)]),
            "event_timestamp": pl.Series(at_us).cast(pl.Datetime("us", "UTC")),
        }
    ).to_pandas()


def run(folder: Path, rows: int, count: int, turns: int) -> dict[str, Any]:
    """Both stores in turns; equal answers, or an error."""
    objects, refs = make(folder, rows)
    stores = {}
    for name, kind in STORES.items():
        stores[name] = FeatureStore(
            config=RepoConfig(
                project="pit",
                provider="local",
                registry=str(folder / f"{name}.db"),
                online_store={"type": "sqlite", "path": str(folder / f"{name}.online")},
                offline_store={"type": kind},
                entity_key_serialization_version=3,
                repo_path=folder,
            )
        )
        stores[name].apply(objects)
    entities = entity_rows(count)
    seconds: dict[str, list[float]] = {name: [] for name in stores}
    for turn in range(turns):
        found = {}
        for name, store in stores.items():
            began_s = time.perf_counter()
            answer = store.get_historical_features(entity_df=entities, features=refs).to_df()
            seconds[name].append(round(time.perf_counter() - began_s, 2))
            found[name] = answer
        if turn == 0:
            check(found, count)
        print(
            f"turn {turn + 1}: " + ", ".join(f"{n} {s[-1]} s" for n, s in seconds.items()),
            flush=True,
        )
    medians = {name: float(np.median(some)) for name, some in seconds.items()}
    return {
        "ratio": round(medians["duckdb"] / medians["ours"], 2),
        "seconds": medians,
        "turns": seconds,
        "rows": count,
    }


def check(found: dict[str, pd.DataFrame], count: int) -> None:
    """Raises AssertionError unless both gave every row, and the same values."""
    ours, theirs = (
        pl.from_pandas(found[name]).sort("row").with_columns(
            pl.col("event_timestamp").dt.cast_time_unit("us")
        )
        for name in ("ours", "duckdb")
    )  # fmt: skip
    if ours.height != count or ours["cost_0"].null_count() in (0, count):
        raise AssertionError("not every row is there, or none is without features")
    assert_frame_equal(
        ours.select(sorted(ours.columns)), theirs.select(sorted(theirs.columns)), check_dtypes=False
    )


def main(argv: list[str]) -> int:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="the last line is JSON either way")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, two turns")
    options = parser.parse_args(argv)
    os.environ.update(DO_NOT_TRACK="1", FEAST_USAGE="False")
    logging.disable(logging.WARNING)
    part = 10 if options.quick else 1
    with tempfile.TemporaryDirectory() as folder:
        found = run(Path(folder), ROWS // part, ENTITY_ROWS // part, 2 if options.quick else TURNS)
    print(json.dumps({**found, "hardware": hardware(), "commit": commit()}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
