from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from feature_repo.engine.shard import Shard
from streaming.sinks.offline import OfflineWriter
from streaming.updates import Update
from tests.streaming.made_events import batch_of, page_view


def updates(count: int, rows: int = 10) -> list[Update]:
    """Updates of 10 minutes each, from half an hour before midnight on."""
    shard = Shard()
    found = []
    for number in range(count):
        events = [page_view(number * rows + row) for row in range(rows)]
        changed = shard.fold(batch_of(events), number * rows)
        assert changed is not None
        found.append(Update(3, number * rows, changed))
    return found


def read(table: Path) -> pl.DataFrame:
    return pl.read_parquet(table, hive_partitioning=True)


def test_rows_land_in_the_folder_of_their_day(tmp_path: Path) -> None:
    writer = OfflineWriter(tmp_path, "g")
    for update in updates(6):
        writer.write(update)
    assert not list(tmp_path.rglob("*.parquet"))
    writer.flush()
    writer.flush()
    stored = read(tmp_path)
    assert stored.height == 60
    assert (stored["event_timestamp"].dt.date() == stored["event_date"]).all()
    assert stored["event_date"].n_unique() == 2


def test_a_replay_replaces_its_files(tmp_path: Path) -> None:
    for _ in range(2):
        writer = OfflineWriter(tmp_path, "g", flush_rows=20)
        for update in updates(7):
            writer.write(update)
        writer.flush()
    assert read(tmp_path)["event_id"].sort().to_list() == sorted(f"e{n}" for n in range(70))
    assert not list(tmp_path.rglob("*.part"))


def test_another_generation_stands_beside_it(tmp_path: Path) -> None:
    for generation in ("g1", "g2"):
        writer = OfflineWriter(tmp_path, generation)
        writer.write(updates(1)[0])
        writer.flush()
    assert read(tmp_path).height == 20


@pytest.mark.parametrize(("passed_s", "files"), [(4.9, 0), (5.0, 1)])
def test_live_rows_wait_no_longer_than_they_may(
    tmp_path: Path, passed_s: float, files: int
) -> None:
    now = [100.0]
    writer = OfflineWriter(
        tmp_path, "live", flush_after=timedelta(seconds=5), monotonic_s=lambda: now[0]
    )
    first, second = updates(2)
    writer.write(first)
    now[0] += passed_s
    writer.write(second)
    assert len(list(tmp_path.rglob("*.parquet"))) == files
