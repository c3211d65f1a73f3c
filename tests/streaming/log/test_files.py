from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.contracts.errors import InputError
from feature_repo.contracts.events import Event
from streaming.log.entity_frames import EntityFrames
from streaming.log.errors import DeliveryError
from streaming.log.files import FileLog, FileLogReader
from streaming.log.frames import Partition
from tests.streaming.log.log_reading import (
    FEATURE_SET,
    all_partitions,
    ids_by_partition,
    last_offsets,
    read_to_end,
    rows_of,
)
from tests.streaming.made_events import batch_of, page_view, payment, write_events


def made_events(count: int = 60) -> list[Event]:
    return [
        payment(number, f"c{number % 11}") if number % 3 else page_view(number, f"c{number % 11}")
        for number in range(count)
    ]


def expected(events: list[Event]) -> dict[Partition, list[str]]:
    split = EntityFrames(FEATURE_SET).split(batch_of(events))
    return {key: rows.column("event_id").to_pylist() for key, rows in split}


@pytest.mark.parametrize("frame_rows", [1, 7, 1_000])
def test_a_file_replays_into_every_entity_and_shard(tmp_path: Path, frame_rows: int) -> None:
    events = made_events()
    path = write_events(events, tmp_path / "e.parquet")
    reader = FileLogReader(path, FEATURE_SET, frame_rows=frame_rows)
    frames = read_to_end(reader)
    reader.close()
    assert ids_by_partition(frames) == expected(events)
    assert set(last_offsets(frames).values()) <= set(range(60))
    whole = pa.Table.from_batches([batch_of(events)]).sort_by("event_id")
    assert rows_of(frames).equals(whole)
    assert reader.gone == {}


@pytest.mark.parametrize("cut", range(1, 20, 3))
@pytest.mark.parametrize("row_group", [5, 1_000])
def test_reading_resumes_after_any_frame_of_any_partition(
    tmp_path: Path, cut: int, row_group: int
) -> None:
    events = made_events()
    path = tmp_path / "e.parquet"
    pq.write_table(pa.Table.from_batches([batch_of(events)]), path, row_group_size=row_group)
    frames = read_to_end(FileLogReader(path, FEATURE_SET, frame_rows=4))
    done = frames[:cut]
    rest = read_to_end(
        FileLogReader(path, FEATURE_SET, all_partitions(last_offsets(done)), frame_rows=9)
    )
    first, second = ids_by_partition(done), ids_by_partition(rest)
    whole = {key: first.get(key, []) + second.get(key, []) for key in {**first, **second}}
    assert whole == expected(events)


def test_only_the_partitions_asked_for_are_read(tmp_path: Path) -> None:
    events = made_events()
    path = write_events(events, tmp_path / "e.parquet")
    wanted: Partition = next(iter(expected(events)))
    frames = read_to_end(FileLogReader(path, FEATURE_SET, {wanted: None}, frame_rows=4))
    assert ids_by_partition(frames) == {wanted: expected(events)[wanted]}
    assert read_to_end(FileLogReader(path, FEATURE_SET, {})) == []
    assert read_to_end(FileLogReader(path, FEATURE_SET, {wanted: 59})) == []


def test_a_folder_is_one_log_and_can_be_appended_to(tmp_path: Path) -> None:
    events = made_events()
    log = FileLog(tmp_path / "log")
    assert log.append(batch_of(events[:20])) == 20
    log.close()
    log = FileLog(tmp_path / "log")  # by another process, later
    assert [log.append(batch_of(events[at : at + 20])) for at in (20, 40)] == [20, 20]
    frames = read_to_end(FileLogReader(tmp_path / "log", FEATURE_SET, frame_rows=16))
    assert ids_by_partition(frames) == expected(events)
    last = last_offsets(frames)
    assert max(last.values()) == 59
    key = next(iter(last))
    later = read_to_end(FileLogReader(tmp_path / "log", FEATURE_SET, {key: 30}))
    assert {frame.offset for frame in later} <= {39, 59}
    assert ids_by_partition(later)[key] == [n for n in expected(events)[key] if int(n[1:]) > 30]


def test_what_the_disk_does_not_take_is_named(tmp_path: Path) -> None:
    log = FileLog(tmp_path / "log")
    (tmp_path / "log").rmdir()
    with pytest.raises(DeliveryError, match="'e0'"):
        log.append(batch_of([page_view(0)]))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.parquet.*daima replay"):
        FileLogReader(tmp_path / "nowhere.parquet", FEATURE_SET)


def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    path.write_text("event_id,event_time\n")
    with pytest.raises(InputError, match="readable Parquet"):
        FileLogReader(path, FEATURE_SET)


def test_a_file_of_other_columns_is_refused_with_the_missing_ones(tmp_path: Path) -> None:
    table = pa.Table.from_batches([batch_of([page_view(0)])]).drop_columns(["fee_minor"])
    pq.write_table(table, tmp_path / "events.parquet")
    with pytest.raises(InputError, match="fee_minor"):
        FileLogReader(tmp_path / "events.parquet", FEATURE_SET)
