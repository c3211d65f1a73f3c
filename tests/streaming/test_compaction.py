"""Small files become one a partition and day, with the right rows of those given twice."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import msgspec
import polars as pl
import pyarrow as pa
import pytest

from feature_repo.contracts.events import EVENT_SCHEMA
from streaming import compaction
from streaming.checkpoints import Manifest
from streaming.compaction import compact, settled_files
from streaming.offline_files import OfflineName
from streaming.sinks.offline import OfflineWriter
from tests.streaming.made_events import START, batch_of, page_view

TOMORROW = (START + timedelta(days=2)).date()
ROWS = pa.schema(
    [
        ("event_id", pa.string()),
        ("customer_id", pa.string()),
        ("event_timestamp", pa.timestamp("us", tz="UTC")),
        ("count", pa.int64()),
    ]
)


def write_events(table: Path, numbers: list[list[int]], generation: int = 1) -> None:
    """A file a list, of partition 0, at the offset of its first number."""
    writer = OfflineWriter(table, EVENT_SCHEMA, generation)
    for group in numbers:
        writer.write(0, group[0], batch_of([page_view(n) for n in group]))
        writer.flush()
    writer.close()


def write_rows(table: Path, files: list[list[tuple[str, int]]]) -> None:
    writer = OfflineWriter(table, ROWS, 1)
    for offset, rows in enumerate(files):
        batch = pa.RecordBatch.from_pydict(
            {
                "event_id": [name for name, _ in rows],
                "customer_id": ["c1"] * len(rows),
                "event_timestamp": [START] * len(rows),
                "count": [count for _, count in rows],
            },
            schema=ROWS,
        )
        writer.write(0, offset, batch)
        writer.flush()
    writer.close()


def read(table: Path) -> pl.DataFrame:
    files = sorted(table.rglob("*.parquet"), key=lambda path: path.name)
    return pl.concat([pl.read_parquet(path) for path in files])


def test_a_days_files_become_one_a_generation_and_partition(tmp_path: Path) -> None:
    write_events(tmp_path, [[0, 1], [2, 3], [4, 5, 60, 61], [62]])
    write_events(tmp_path, [[0, 1], [2, 3]], generation=2)
    before = read(tmp_path).sort("event_id", "event_time")
    report = compact(tmp_path, TOMORROW)
    names = [OfflineName.parse(path.name) for path in sorted(tmp_path.rglob("*.parquet"))]
    assert names == [
        OfflineName("0000000001", 0, 0),
        OfflineName("0000000002", 0, 0),
        OfflineName("0000000001", 0, 4),
    ]
    assert read(tmp_path).sort("event_id", "event_time").equals(before)
    assert (report.files_before, report.files_after, report.rows_dropped) == (7, 3, 0)


def test_an_unfinished_day_is_left_alone(tmp_path: Path) -> None:
    write_events(tmp_path, [[0, 1], [2, 3], [60], [61]])
    compact(tmp_path, before=START.date() + timedelta(days=1))
    assert len(list(tmp_path.rglob("*.parquet"))) == 3


def test_files_beyond_the_checkpoint_are_left_alone(tmp_path: Path) -> None:
    write_events(tmp_path, [[0], [1], [2], [3]])
    write_events(tmp_path, [[0], [1]], generation=2)
    checkpoints = tmp_path / "checkpoints"

    def remaining() -> list[tuple[int, int]]:
        compact(tmp_path, TOMORROW, settled_files(checkpoints, "customer"))
        found = [OfflineName.parse(path.name) for path in sorted(tmp_path.rglob("*.parquet"))]
        return [(int(name.generation), name.offset) for name in found if name]

    def checkpoint(generation: int, offset: int) -> None:
        folder = checkpoints / "customer-00"
        folder.mkdir(parents=True, exist_ok=True)
        manifest = Manifest(1, "f", "valkey", generation, offset, None, ())
        (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))

    all_of_them = [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1)]
    assert remaining() == all_of_them  # no checkpoint
    checkpoint(1, 2)
    assert remaining() == [(1, 0), (1, 3), (2, 0), (2, 1)]
    checkpoint(2, 0)
    assert remaining() == [(1, 0), (2, 0), (2, 1)]


def test_of_events_given_twice_the_first_stays(tmp_path: Path) -> None:
    write_events(tmp_path, [[0, 1, 2], [1, 2, 3]])
    report = compact(tmp_path, TOMORROW)
    assert read(tmp_path)["event_id"].to_list() == ["e0", "e1", "e2", "e3"]
    assert report.rows_dropped == 2


def test_of_feature_rows_given_again_the_last_stays(tmp_path: Path) -> None:
    write_rows(tmp_path, [[("a", 1), ("b", 1)], [("b", 2), ("c", 1)], [("b", 3)]])
    compact(tmp_path, TOMORROW)
    rows = read(tmp_path).sort("event_id")
    assert rows.select("event_id", "count").rows() == [("a", 1), ("b", 3), ("c", 1)]


@pytest.mark.parametrize("removed", range(3))
def test_a_crash_at_any_point_leaves_the_right_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removed: int
) -> None:
    write_rows(tmp_path, [[("a", 1), ("b", 1)], [("b", 2), ("c", 1)], [("b", 3)]])
    unlink = Path.unlink
    done: list[Path] = []

    def crash(path: Path, missing_ok: bool = False) -> None:
        if len(done) == removed:
            raise KeyboardInterrupt
        done.append(path)
        unlink(path, missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", crash)
        if removed < 2:
            with pytest.raises(KeyboardInterrupt):
                compact(tmp_path, TOMORROW)
        else:
            compact(tmp_path, TOMORROW)
    last = read(tmp_path).unique("event_id", keep="last").sort("event_id")
    assert last.select("event_id", "count").rows() == [("a", 1), ("b", 3), ("c", 1)]
    compact(tmp_path, TOMORROW)
    assert read(tmp_path).height == 3


def test_files_of_others_are_not_touched(tmp_path: Path) -> None:
    folder = tmp_path / "event_date=2020-01-01"
    folder.mkdir(parents=True)
    (folder / "mine.parquet").write_bytes(b"no Parquet")
    (tmp_path / "event_date=soon").mkdir()
    assert compact(tmp_path, date(2030, 1, 1)) == compaction.CompactionReport()
