from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from feature_repo.engine.shard import Shard
from streaming.sinks.offline import OfflineWriter
from streaming.updates import Update
from tests.streaming.made_events import START, batch_of, page_view


def updates(count: int, rows: int = 10, shift: timedelta = timedelta(0)) -> list[Update]:
    """Updates of 10 minutes each, from half an hour before midnight on, of shards 3 and 4."""
    shard = Shard()
    found = []
    for number in range(count):
        numbers = range(number * rows, (number + 1) * rows)
        events = [page_view(n, at=START + shift + timedelta(minutes=n)) for n in numbers]
        changed = shard.fold(batch_of(events))
        assert changed is not None
        found.append(Update(3 + number % 2, number * rows, changed))
    return found


def read(table: Path) -> pl.DataFrame:
    return pl.read_parquet(table, hive_partitioning=True)


def ids(table: Path) -> list[str]:
    return sorted(read(table)["event_id"].to_list(), key=lambda name: int(name[1:]))


def replay(table: Path, found: list[Update], generation: str = "g", segment: int = 20) -> None:
    writer = OfflineWriter(table, generation, segment)
    for update in found:
        writer.write(update)
    writer.close()
    writer.remove_stale()


def test_rows_land_in_the_folder_of_their_day(tmp_path: Path) -> None:
    replay(tmp_path, updates(6))
    stored = read(tmp_path)
    assert stored.height == 60
    assert (stored["event_timestamp"].dt.date() == stored["event_date"]).all()
    assert stored["event_date"].n_unique() == 2
    assert not list(tmp_path.rglob("*.part"))


def test_a_replay_replaces_its_files(tmp_path: Path) -> None:
    for _ in range(2):
        replay(tmp_path, updates(7))
        assert ids(tmp_path) == [f"e{n}" for n in range(70)]


def test_a_replay_whose_rows_moved_to_other_days_leaves_no_old_ones(tmp_path: Path) -> None:
    replay(tmp_path, updates(7))
    replay(tmp_path, updates(7, shift=timedelta(days=5)))
    assert ids(tmp_path) == [f"e{n}" for n in range(70)]
    assert read(tmp_path)["event_date"].min() == (START + timedelta(days=5)).date()


def test_another_generation_stands_beside_it(tmp_path: Path) -> None:
    for generation in ("g1", "g2"):
        replay(tmp_path, updates(1), generation)
    assert read(tmp_path).height == 20


def test_a_live_run_that_starts_anew_doubles_nothing(tmp_path: Path) -> None:
    """The first run ends in the middle of a segment, after flushes at odd moments."""
    found = updates(9)
    first = OfflineWriter(tmp_path, "live", segment=40)
    for number, update in enumerate(found[:5]):
        first.write(update)
        if number % 2:
            first.flush()
    first.close()
    assert ids(tmp_path) == [f"e{n}" for n in range(50)]
    second = OfflineWriter(tmp_path, "live", segment=40)
    for update in found:
        second.write(update)
    second.close()
    assert ids(tmp_path) == [f"e{n}" for n in range(90)]


def test_names_sort_in_the_order_of_the_log(tmp_path: Path) -> None:
    replay(tmp_path, updates(12, rows=1), segment=4)
    for shard in (3, 4):
        files = sorted(tmp_path.rglob(f"g-{shard:02d}-*.parquet"), key=lambda path: path.name)
        instants = pl.concat([pl.read_parquet(path) for path in files])["event_timestamp"]
        assert instants.is_sorted()
        assert len(files) > 1


def test_live_rows_are_written_though_nothing_follows_them(tmp_path: Path) -> None:
    writer = OfflineWriter(tmp_path, "live", 1_000, flush_after=timedelta(milliseconds=50))
    writer.write(updates(1)[0])
    deadline = time.monotonic() + 20
    while not list(tmp_path.rglob("*.parquet")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    writer.close()
    assert read(tmp_path).height == 10


def test_a_failed_write_is_told_to_whoever_writes_next(tmp_path: Path) -> None:
    (tmp_path / "table").write_text("a file where the folder should be")
    writer = OfflineWriter(tmp_path / "table", "live", 1_000, timedelta(milliseconds=20))
    update = updates(1)[0]

    def write_on() -> None:
        for _ in range(1_000):
            writer.write(update)
            time.sleep(0.01)

    with pytest.raises(OSError, match="table"):
        write_on()
