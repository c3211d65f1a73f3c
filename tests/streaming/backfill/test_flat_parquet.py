"""What the writer packs, every reader gets back: Arrow, Polars and DuckDB."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.contracts.events import TIMESTAMP
from streaming.backfill.flat_parquet import flat_parquet, is_flat

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("maybe_id", pa.string()),
        pa.field("count", pa.int64(), nullable=False),
        pa.field("amount", pa.int64()),
        pa.field("rate", pa.float64()),
        pa.field("text", pa.string()),
        pa.field("key", pa.dictionary(pa.int32(), pa.string())),
        pa.field("at", TIMESTAMP, nullable=False),
    ]
)
MICROSECOND = timedelta(microseconds=1)
IDS = frozenset({"id", "maybe_id"})
INTEGERS = st.one_of(st.integers(0, 3), st.integers(-(2**63), 2**63 - 1))
TEXTS = st.one_of(st.sampled_from(["", "a", "GB-NG"]), st.text(max_size=20))
VALUES = {
    "id": TEXTS,
    "maybe_id": st.none() | TEXTS,
    "count": INTEGERS,
    "amount": st.none() | INTEGERS,
    "rate": st.none() | st.floats(allow_nan=False),
    "text": st.none() | TEXTS,
    "key": st.none() | TEXTS,
    "at": st.integers(0, 2**52).map(lambda us: datetime(1970, 1, 1, tzinfo=UTC) + us * MICROSECOND),
}
ROWS = st.fixed_dictionaries(VALUES)


def batch_of(rows: list[dict[str, object]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows, SCHEMA)


def write(path: Path, batches: list[pa.RecordBatch], schema: pa.Schema = SCHEMA) -> None:
    with flat_parquet(path, schema, IDS) as writer:
        for batch in batches:
            writer.write_batch(batch)


def plain(table: pa.Table) -> pa.Table:
    kinds = [f.type.value_type if pa.types.is_dictionary(f.type) else f.type for f in table.schema]
    names = table.schema.names
    return table.cast(pa.schema(list(zip(names, kinds, strict=True))))


def assert_read_back(path: Path, batches: list[pa.RecordBatch]) -> None:
    expected = plain(pa.Table.from_batches(batches, SCHEMA))
    assert plain(pq.read_table(path)).equals(expected)
    frame = pl.from_arrow(expected)
    assert isinstance(frame, pl.DataFrame)
    assert pl.read_parquet(path).equals(frame)
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        found = database.execute(f"SELECT * FROM '{path}'").fetchall()
    assert found == [tuple(row.values()) for row in expected.to_pylist()]


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(ROWS, max_size=50), cut=st.integers(0, 50), skipped=st.integers(0, 9))
def test_any_rows_are_read_back(rows: list[dict[str, object]], cut: int, skipped: int) -> None:
    whole = batch_of(rows)
    # Slices: their values and bits begin somewhere in a buffer.
    batches = [whole.slice(skipped, cut), whole.slice(skipped + cut)]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        write(path, batches)
        assert_read_back(path, batches)


@pytest.mark.parametrize("rows", [1, 31, 128, 129, 1_000, 70_000])
def test_blocks_of_every_width(tmp_path: Path, rows: int) -> None:
    rng = np.random.default_rng(rows)
    widest = 2 ** (np.arange(rows) // 40 % 63)
    amounts = rng.integers(-widest, widest)
    present = rng.random(rows) < 0.9
    texts = [f"text {number}" for number in rng.integers(0, 3 + rows // 3, rows)]
    batch = pa.RecordBatch.from_arrays(
        [
            pa.array([f"{number:x}" for number in range(rows)]),
            pa.array(texts, mask=~present),
            pa.array(amounts),
            pa.array(amounts[::-1].copy(), mask=~present),
            pa.array(rng.normal(size=rows), mask=~present),
            pa.array(texts),
            pa.array(texts, mask=~present).dictionary_encode(),
            pa.array(np.cumsum(np.abs(amounts) % 10**9)).cast(TIMESTAMP),
        ],
        schema=SCHEMA,
    )
    write(tmp_path / "rows.parquet", [batch])
    assert_read_back(tmp_path / "rows.parquet", [batch])


def test_floats_keep_their_bits(tmp_path: Path) -> None:
    schema = pa.schema([("rate", pa.float64())])
    rates = pa.array([-0.0, math.nan, math.inf, None, 5e-324])
    write(tmp_path / "a.parquet", [pa.RecordBatch.from_arrays([rates], schema=schema)], schema)
    found = pq.read_table(tmp_path / "a.parquet")["rate"].to_pylist()
    assert list(map(repr, found)) == ["-0.0", "nan", "inf", "None", "5e-324"]


def test_a_dictionary_of_more_texts_than_rows_is_cut_down(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("key", SCHEMA.field("key").type)])
    texts = pa.array([f"text {number}" for number in range(10_000)])
    keys = pa.DictionaryArray.from_arrays(pa.array([5, 9_999, None], pa.int32()), texts)
    write(tmp_path / "a.parquet", [pa.RecordBatch.from_arrays([keys], schema=schema)], schema)
    found = pq.read_table(tmp_path / "a.parquet")["key"]
    assert found.to_pylist() == ["text 5", "text 9999", None]
    assert (tmp_path / "a.parquet").stat().st_size < 1_000


def test_readers_choose_row_groups_by_instant(tmp_path: Path) -> None:
    row = dict.fromkeys(SCHEMA.names) | {"id": "a", "count": 1}
    days = [datetime(2025, 6, day, tzinfo=UTC) for day in (1, 2, 3, 4)]
    batches = [batch_of([row | {"at": at} for at in pair]) for pair in (days[:2], days[2:])]
    write(tmp_path / "a.parquet", batches)
    groups = pq.read_metadata(tmp_path / "a.parquet")
    spans = [groups.row_group(at).column(7).statistics for at in range(groups.num_row_groups)]
    assert [(span.min, span.max) for span in spans] == [tuple(days[:2]), tuple(days[2:])]


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    assert is_flat(SCHEMA)
    numbers = pa.dictionary(pa.int32(), pa.int64())
    for kind in (pa.list_(pa.int64()), numbers, pa.timestamp("us"), pa.binary(), pa.int32()):
        assert not is_flat(pa.schema([("amounts", kind)]))
    schema = pa.schema([pa.field("count", pa.int64(), nullable=False)])
    nulls = pa.RecordBatch.from_arrays([pa.array([None], pa.int64())], schema=schema)
    with pytest.raises(ValueError, match="count: 1 nulls"):
        write(tmp_path / "a.parquet", [nulls], schema)
