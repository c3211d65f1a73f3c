from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from feature_repo.contracts.events import EVENT_SCHEMA, Event, EventType, events_to_batch
from streaming.sinks import offline
from streaming.sinks.offline import OfflineWriter
from tests.streaming.made_events import START, batch_of, page_view

Frame = tuple[int, int, pa.RecordBatch]


def frames(count: int, rows: int = 10) -> list[Frame]:
    """Frames of 10 minutes each, from half an hour before midnight on, of partitions 3 and 4."""
    return [
        (3 + n % 2, n * rows, batch_of([page_view(n * rows + i) for i in range(rows)]))
        for n in range(count)
    ]


def read(table: Path) -> pl.DataFrame:
    return pl.read_parquet(table / "**/*.parquet", hive_partitioning=True)


def ids(table: Path) -> list[str]:
    return sorted(read(table)["event_id"].to_list(), key=lambda name: int(name[1:]))


def numbered(count: int) -> list[str]:
    return [f"e{n}" for n in range(count)]


def test_rows_land_in_the_folder_of_their_day(tmp_path: Path) -> None:
    writer = OfflineWriter(tmp_path, EVENT_SCHEMA, 7)
    for frame in frames(6):
        writer.write(*frame)
    writer.close()
    stored = read(tmp_path)
    assert ids(tmp_path) == numbered(60)
    assert (stored["event_time"].dt.date() == stored["event_date"]).all()
    assert stored["event_date"].n_unique() == 2
    assert {path.name for path in tmp_path.rglob("*.parquet")} == {
        "0000000007-0003-00000000000000000000.parquet",
        "0000000007-0004-00000000000000000010.parquet",
    }
    assert not list(tmp_path.rglob("*.part"))


def test_a_label_is_filed_under_the_day_on_which_it_arrived(tmp_path: Path) -> None:
    label = Event(
        event_id="l",
        event_time=START,
        customer_id="c1",
        event_type=EventType.LABEL,
        label_event_id="e1",
        label_value=1.0,
        label_arrival_time=START + timedelta(days=7),
    )
    writer = OfflineWriter(tmp_path, EVENT_SCHEMA, 1)
    writer.write(0, 0, events_to_batch([label, page_view(1)]))
    writer.close()
    stored = read(tmp_path).sort("event_id")
    days = [START.date(), (START + timedelta(days=7)).date()]
    assert stored["event_date"].to_list() == days


def test_a_restart_replaces_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    found = frames(9)
    first = OfflineWriter(tmp_path, EVENT_SCHEMA, "live")
    for frame in found[:4]:
        first.write(*frame)
    first.flush()  # the checkpoint: partition 3 up to offset 20, partition 4 up to 30
    for frame in found[4:7]:
        first.write(*frame)
        first.flush()
    assert ids(tmp_path) == numbered(70)
    second = OfflineWriter(tmp_path, EVENT_SCHEMA, "live")
    second.resume(3, 20)
    second.resume(4, 30)
    assert ids(tmp_path) == numbered(40)
    for frame in found[4:]:
        second.write(*frame)
    second.close()
    assert ids(tmp_path) == numbered(90)


def test_resuming_without_a_checkpoint_spares_other_generations(tmp_path: Path) -> None:
    for generation in (1, 2):
        writer = OfflineWriter(tmp_path, EVENT_SCHEMA, generation)
        for frame in frames(2):
            writer.write(*frame)
        writer.close()
    writer = OfflineWriter(tmp_path, EVENT_SCHEMA, 2)
    writer.resume(3, None)
    assert read(tmp_path).height == 30
    writer.resume(4, None)
    assert ids(tmp_path) == numbered(20)
    writer.close()


def test_names_sort_in_the_order_of_the_log(tmp_path: Path) -> None:
    writer = OfflineWriter(tmp_path, EVENT_SCHEMA, 1)
    for partition, offset, rows in frames(12, rows=1):
        writer.write(partition, offset * 10**9, rows)
        writer.flush()
    writer.close()
    for partition in (3, 4):
        files = sorted(tmp_path.rglob(f"*-{partition:04d}-*.parquet"), key=lambda path: path.name)
        instants = pl.concat([pl.read_parquet(path) for path in files])["event_time"]
        assert instants.is_sorted()
        assert len(files) == 6


def test_live_rows_are_written_though_nothing_follows_them(tmp_path: Path) -> None:
    writer = OfflineWriter(tmp_path, EVENT_SCHEMA, 1, flush_after=timedelta(milliseconds=50))
    writer.write(*frames(1)[0])
    deadline = time.monotonic() + 20
    while not list(tmp_path.rglob("*.parquet")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    writer.close()
    assert read(tmp_path).height == 10


def test_what_waits_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline, "MOST_WAITING_BYTES", 1)
    writer = OfflineWriter(tmp_path, EVENT_SCHEMA, 1)
    writer.write(*frames(1)[0])
    assert read(tmp_path).height == 10
    writer.close()


def test_several_threads_lose_nothing(tmp_path: Path) -> None:
    writer = OfflineWriter(tmp_path, EVENT_SCHEMA, 1, flush_after=timedelta(milliseconds=1))
    found = frames(40)

    def write(partition: int) -> None:
        for frame in found:
            if frame[0] == partition:
                writer.write(*frame)

    threads = [threading.Thread(target=write, args=(partition,)) for partition in (3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    assert ids(tmp_path) == numbered(400)


def test_a_failed_write_is_told_to_whoever_writes_next(tmp_path: Path) -> None:
    (tmp_path / "table").write_text("a file where the folder should be")
    writer = OfflineWriter(
        tmp_path / "table", EVENT_SCHEMA, 1, flush_after=timedelta(milliseconds=20)
    )
    frame = frames(1)[0]

    def write_on() -> None:
        for _ in range(1_000):
            writer.write(*frame)
            time.sleep(0.01)

    with pytest.raises(OSError, match="table"):
        write_on()


def test_feature_rows_are_filed_by_their_event(tmp_path: Path) -> None:
    schema = pa.schema(
        [
            ("event_id", pa.string()),
            ("customer_id", pa.string()),
            ("event_timestamp", pa.timestamp("us", tz="UTC")),
            ("count", pa.int64()),
            ("pages", pa.list_(pa.string())),
        ]
    )
    instants: list[datetime] = [START, START + timedelta(days=1)]
    rows = pa.RecordBatch.from_pydict(
        {
            "event_id": ["a", "b"],
            "customer_id": ["c", "c"],
            "event_timestamp": instants,
            "count": [1, None],
            "pages": [["x"], None],
        },
        schema=schema,
    )
    writer = OfflineWriter(tmp_path, schema, 1)
    writer.write(0, 5, rows)
    writer.close()
    stored = read(tmp_path).sort("event_id")
    assert stored["event_date"].to_list() == [at.date() for at in instants]
    assert stored["count"].to_list() == [1, None]
    assert stored["pages"].to_list() == [["x"], None]
