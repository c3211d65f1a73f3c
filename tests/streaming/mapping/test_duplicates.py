from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streaming.mapping.duplicates import duplicate_rows


@pytest.mark.parametrize("distinct", [1, 700, 10**9])
def test_every_row_but_the_first_of_an_id(tmp_path: Path, distinct: int) -> None:
    ids = np.random.default_rng(5).integers(0, distinct, 5000).tolist()
    staged = tmp_path / "it's staged.parquet"
    table = pa.table({"event_id": [f"e{n}" for n in ids], "row": range(10, 5010)})
    pq.write_table(table, staged, row_group_size=300)
    seen: set[int] = set()
    expected = [row for row, n in enumerate(ids, 10) if n in seen or seen.add(n)]  # type: ignore[func-returns-value]
    assert duplicate_rows(staged, "row", tmp_path / "spill").tolist() == expected


def test_a_file_without_events(tmp_path: Path) -> None:
    table = pa.table({"event_id": pa.array([], pa.string()), "row": pa.array([], pa.int64())})
    pq.write_table(table, tmp_path / "x.parquet")
    assert duplicate_rows(tmp_path / "x.parquet", "row", tmp_path / "spill").tolist() == []
