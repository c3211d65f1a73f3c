from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.contracts.errors import InputError
from streaming.log.files import FileLogReader
from streaming.log.frames import Frame
from tests.streaming.made_events import batch_of, page_view, write_events


def read_all(reader: FileLogReader) -> list[Frame]:
    frames: list[Frame] = []
    while True:
        try:
            frames += reader.poll()
        except StopIteration:
            return frames


@pytest.mark.parametrize("start", [0, 3, 10, 25])
def test_frames_hold_every_row_from_the_start_on(tmp_path: Path, start: int) -> None:
    events = [page_view(number) for number in range(25)]
    reader = FileLogReader(write_events(events, tmp_path / "e.parquet"), frame_rows=4, start=start)
    frames = read_all(reader)
    names = [name for frame in frames for name in frame.events.column("event_id").to_pylist()]
    assert names == [event.event_id for event in events[start:]]
    for frame in frames:
        assert frame.events.column("event_id")[0].as_py() == f"e{frame.offset}"
    reader.close()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.parquet.*daima replay"):
        FileLogReader(tmp_path / "nowhere.parquet")


def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    path.write_text("event_id,event_time\n")
    with pytest.raises(InputError, match="readable Parquet"):
        FileLogReader(path)


def test_a_file_of_other_columns_is_refused_with_the_missing_ones(tmp_path: Path) -> None:
    table = pa.Table.from_batches([batch_of([page_view(0)])]).drop_columns(["fee_minor"])
    pq.write_table(table, tmp_path / "events.parquet")
    with pytest.raises(InputError, match="fee_minor"):
        FileLogReader(tmp_path / "events.parquet")
