from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from feature_repo.contracts.events import EVENT_SCHEMA
from streaming.simulator import Simulation, World, WorldError, simulate, write
from tests.streaming.simulator.conftest import START

VIEWS = {"customer_profile", "customer_financials", "corridor_costs"}


@pytest.fixture(scope="module")
def small(world: World) -> Simulation:
    return simulate(world, customers=200, start=START, end=START + timedelta(days=2), seed=1)


def write_under(simulation: Simulation, root: Path) -> None:
    write(
        simulation,
        root / "log" / "events.parquet",
        root / "truth",
        lambda view: root / "offline" / view,
    )


def test_everything_is_written_where_it_belongs(small: Simulation, tmp_path: Path) -> None:
    write_under(small, tmp_path)
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*") if path.is_file()}
    assert written == {
        "log/events.parquet",
        *(f"truth/{name}.parquet" for name in ("sessions", "payments", "pages", "customers")),
        *(
            f"offline/{view}/event_date=2025-06-0{day}/{view}.parquet"
            for view in VIEWS
            for day in (2, 3)
        ),
    }
    table = pq.read_table(tmp_path / "log" / "events.parquet")
    assert table.schema.equals(EVENT_SCHEMA)
    assert table.equals(small.events)
    folder = tmp_path / "offline" / "customer_profile"
    assert pl.read_parquet(folder / "**" / "*.parquet", hive_partitioning=False).height == 400


def test_row_groups_are_batches(simulation: Simulation, tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    write(simulation, path, tmp_path / "truth", lambda view: tmp_path / "offline" / view)
    file = pq.ParquetFile(path)
    assert file.metadata.row_group(0).num_rows == 65_536 < simulation.events.num_rows
    assert file.metadata.num_rows == simulation.events.num_rows


def test_same_seed_same_bytes(small: Simulation, world: World, tmp_path: Path) -> None:
    again = simulate(world, customers=200, start=START, end=START + timedelta(days=2), seed=1)
    for name, item in (("a", small), ("b", again)):
        write_under(item, tmp_path / name)
    files = sorted((tmp_path / "a").rglob("*.parquet"))
    assert len(files) == 11
    for path in files:
        twin = tmp_path / "b" / path.relative_to(tmp_path / "a")
        assert path.read_bytes() == twin.read_bytes(), path.name


def test_planted_columns_stand_in_the_truth_alone(small: Simulation, tmp_path: Path) -> None:
    write_under(small, tmp_path)
    planted = {
        *("intent", "persona", "dwell_factor", "duration_s", "k", "lambda_s", "fraud", "origin"),
        *("call", "call_chance", "call_factor", "cycle_days", "stage", "fortune", "drift"),
    }
    for path in tmp_path.rglob("*.parquet"):
        columns = set(pq.read_schema(path).names)
        if path.is_relative_to(tmp_path / "truth"):
            assert columns & planted
        else:
            assert not columns & planted


@pytest.mark.parametrize("folder", ["log", "offline", "offline/customer_profile/truth"])
def test_the_truth_is_refused_beside_what_training_reads(
    small: Simulation, tmp_path: Path, folder: str
) -> None:
    with pytest.raises(WorldError, match="truth_dir"):
        write(
            small,
            tmp_path / "log" / "events.parquet",
            tmp_path / folder,
            lambda view: tmp_path / "offline" / view,
        )
    assert not any(tmp_path.rglob("*.parquet"))
