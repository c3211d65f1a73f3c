"""Counts of what the stores hold."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from infra.contents import RowCount, parquet_rows


def write(path: Path, rows: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({"event_id": [str(number) for number in range(rows)]}).write_parquet(path)


def test_each_footer_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    really = pq.read_metadata

    def counted(path: Path) -> object:
        read.append(path.name)
        return really(path)

    monkeypatch.setattr(pq, "read_metadata", counted)
    count = RowCount(tmp_path)
    assert count.now() == 0
    write(tmp_path / "event_date=2026-03-01" / "a.parquet", 3)
    write(tmp_path / "event_date=2026-03-02" / "b.parquet", 4)
    write(tmp_path / "event_date=2026-03-02" / ".writing.parquet", 5)
    assert [count.now(), count.now()] == [7, 7]
    assert sorted(read) == ["a.parquet", "b.parquet"]
    # Two files become one, and a replay writes one again.
    (tmp_path / "event_date=2026-03-01" / "a.parquet").unlink()
    write(tmp_path / "event_date=2026-03-02" / "b.parquet", 11)
    assert count.now() == parquet_rows(tmp_path) == 11
