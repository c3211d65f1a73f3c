"""Files that cannot be read at all are errors; rows that cannot are dead letters."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.contracts.errors import InputError, MappingError
from streaming.mapping import csv_rows, json_lines, parquet_rows
from streaming.mapping.convert import to_text
from streaming.mapping.raw import RawBatch
from streaming.mapping.readers import read_batches
from streaming.mapping.spec import Mapping, parse_mapping

MAPPING = parse_mapping(
    {
        "fields": {
            "event_id": "id",
            "event_time": "at",
            "customer_id": "user",
            "event_type": {"constant": "page_view"},
            "page": "page",
        }
    }
)
HEADER = "id,at,user,page\n"
ROW = "e1,2024-05-01T10:00:00Z,u1,home\n"


def write(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path, mapping: Mapping = MAPPING) -> RawBatch:
    """The only batch of a small file."""
    batches = list(read_batches(path, mapping))
    assert len(batches) == 1
    assert batches[0].fraction == 1.0
    return batches[0]


# -- files that cannot be read ----------------------------------------------------------------


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent.csv.*no file is there.*check the path"):
        read_batches(tmp_path / "absent.csv", MAPPING)


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a folder is there"):
        read_batches(tmp_path, MAPPING)


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.parquet"])
def test_an_empty_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="not an empty one"):
        read_batches(write(tmp_path, name, b""), MAPPING)


def test_a_file_of_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape("say source.format in the mapping")):
        read_batches(write(tmp_path, "x.xlsx", "PK"), MAPPING)


@pytest.mark.parametrize("content", [HEADER + ROW, "PAR1 and no more", "x"])
def test_a_parquet_file_that_is_none(tmp_path: Path, content: str) -> None:
    with pytest.raises(InputError, match="expected a Parquet file"):
        read_batches(write(tmp_path, "x.parquet", content), MAPPING)


@pytest.mark.parametrize(
    "content", [b"PAR1\x00\x01\x02", b"\n\n", b'"id,at\n', HEADER.encode("utf-16")]
)
def test_a_csv_file_without_a_header(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match="CSV in UTF-8 with a header line"):
        read_batches(write(tmp_path, "x.csv", content), MAPPING)


@pytest.mark.parametrize("name", ["x.csv.gz", "x.jsonl.gz"])
def test_an_archive_that_was_cut_off(tmp_path: Path, name: str) -> None:
    lines = ROW if name == "x.csv.gz" else '{"id": "e1", "at": "x", "user": "u"}\n'
    whole = gzip.compress((HEADER + lines * 10_000).encode(), mtime=0)
    with pytest.raises(InputError, match="a complete, readable file"):
        list(read_batches(write(tmp_path, name, whole[:-20]), MAPPING))


@pytest.mark.parametrize("name", ["x.csv.gz", "x.jsonl.gz"])
@pytest.mark.parametrize("kept", [12, 60, -4])
def test_an_archive_cut_off_anywhere(tmp_path: Path, name: str, kept: int) -> None:
    lines = ROW if name == "x.csv.gz" else '{"id": "e1", "at": "x", "user": "u"}\n'
    whole = gzip.compress((HEADER + lines).encode(), mtime=0)
    with pytest.raises(InputError, match=r"a complete, readable file.*end"):
        list(read_batches(write(tmp_path, name, whole[:kept]), MAPPING))


@pytest.mark.parametrize("name", ["x.csv.gz", "x.jsonl.gz"])
def test_a_damaged_archive(tmp_path: Path, name: str) -> None:
    whole = bytearray(gzip.compress((HEADER + ROW).encode(), mtime=0))
    whole[10:40] = b"\xff" * 30
    with pytest.raises(InputError, match=r"a complete, readable file.*invalid"):
        list(read_batches(write(tmp_path, name, bytes(whole)), MAPPING))


def test_a_parquet_file_with_a_damaged_page(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    names = ["id", "at", "user", "page"]
    pq.write_table(
        pa.table({name: [f"{name}{n}" for n in range(5000)] for name in names}),
        path,
        compression="zstd",
    )
    raw = bytearray(path.read_bytes())
    raw[200:4000] = b"\x00" * 3800
    path.write_bytes(raw)
    with pytest.raises(InputError, match="a complete, readable file"):
        list(read_batches(path, MAPPING))


# -- columns that do not fit the mapping ------------------------------------------------------


def as_csv(tmp_path: Path, columns: list[str]) -> Path:
    return write(tmp_path, "x.csv", ",".join(columns) + "\n" + ",".join("1" for _ in columns))


def as_jsonl(tmp_path: Path, columns: list[str]) -> Path:
    return write(tmp_path, "x.jsonl", json.dumps(dict.fromkeys(columns, "1")))


def as_parquet(tmp_path: Path, columns: list[str]) -> Path:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({column: ["1"] for column in columns}), path)
    return path


@pytest.mark.parametrize("writer", [as_csv, as_jsonl, as_parquet])
def test_a_column_that_the_file_lacks(
    tmp_path: Path, writer: Callable[[Path, list[str]], Path]
) -> None:
    path = writer(tmp_path, ["id", "at", "User", "page"])
    with pytest.raises(MappingError, match=r"fields.customer_id is 'user'.*did you mean User\?"):
        list(read_batches(path, MAPPING))


def test_a_skipped_column_that_the_file_lacks(tmp_path: Path) -> None:
    mapping = parse_mapping(
        {
            "source": {"skip_where": {"tset": "1"}},
            "fields": {name: {"column": "id"} for name in ("event_id", "event_time", "customer_id")}
            | {"event_type": {"constant": "login"}},
        }
    )
    with pytest.raises(MappingError, match=r"source.skip_where is 'tset'.*did you mean test\?"):
        read_batches(as_csv(tmp_path, ["id", "test"]), mapping)


def test_a_column_that_the_csv_header_has_twice(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match="page is 2: expected one column of that name"):
        read_batches(as_csv(tmp_path, ["id", "at", "user", "page", "page"]), MAPPING)


def test_a_column_that_the_parquet_file_has_twice(tmp_path: Path) -> None:
    names = ["id", "at", "user", "page", "page", "unread", "unread"]
    table = pa.table([pa.array(["1"])] * 7, names=names)
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(InputError, match="one column named page, not 2; rename one"):
        read_batches(tmp_path / "x.parquet", MAPPING)
    pq.write_table(table.remove_column(4), tmp_path / "x.parquet")
    assert read(tmp_path / "x.parquet").frame.columns == ["id", "at", "user", "page"]


def test_a_rare_column_may_be_absent_from_json_lines(tmp_path: Path) -> None:
    batch = read(write(tmp_path, "x.jsonl", '{"id": "e", "at": "t", "user": "u"}\n'))
    assert batch.frame["page"].to_list() == [None]


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("at", pa.array([1, 2]), r"fields.event_time.unit: .*at is a number \(int64\).*add unit"),
        ("page", pa.array([["a"], ["b"]]), "page is .*list.*a column of single values"),
        ("page", pa.array([1, 2], pa.duration("s")), r"page is .*duration\[s\].*texts, numbers"),
        ("page", pa.array([1, 2], pa.decimal256(50, 2)), r"page is .*decimal256.*up to 38 digits"),
        ("at", pa.array([1, 2], pa.duration("ns")), r"at is .*duration\[ns\]"),
    ],
)
def test_a_parquet_column_of_a_type_that_does_not_fit(
    tmp_path: Path, column: str, values: pa.Array, said: str
) -> None:
    table = pa.table({name: ["1", "2"] for name in ("id", "at", "user", "page")})
    at = table.schema.get_field_index(column)
    pq.write_table(table.set_column(at, column, values), tmp_path / "x.parquet")
    with pytest.raises(MappingError, match=said):
        read_batches(tmp_path / "x.parquet", MAPPING)


def test_a_skip_value_that_a_boolean_column_cannot_have(tmp_path: Path) -> None:
    mapping = parse_mapping(
        {
            "source": {"skip_where": {"fake": "yes"}},
            "fields": {"event_id": "id", "event_time": "id", "customer_id": "id"}
            | {"event_type": {"constant": "login"}},
        }
    )
    pq.write_table(pa.table({"id": ["1"], "fake": [True]}), tmp_path / "x.parquet")
    with pytest.raises(MappingError, match=r"source.skip_where.fake is 'yes'.*true or false"):
        read_batches(tmp_path / "x.parquet", mapping)


# -- rows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.csv", "x.CSV", "x.csv.gz", "misnamed.csv"])
def test_csv_plain_or_packed(tmp_path: Path, name: str) -> None:
    text = ("\ufeff" + HEADER + ROW).encode()
    packed = gzip.compress(text) if name in ("x.csv.gz", "misnamed.csv") else text
    batch = read(write(tmp_path, name, packed))
    assert batch.frame.columns == ["id", "at", "user", "page"]
    assert batch.frame.row(0) == ("e1", "2024-05-01T10:00:00Z", "u1", "home")
    assert batch.rows.tolist() == [2]


def test_csv_rows_of_the_wrong_width_are_dead_letters_with_their_line(tmp_path: Path) -> None:
    batch = read(write(tmp_path, "x.csv", HEADER + "a,b,c\n" + ROW + "1,2,3,4,5\n" + ROW))
    assert batch.rows.tolist() == [3, 5]
    assert [(bad.row, bad.field, bad.value, bad.record) for bad in batch.broken] == [
        (2, "row", 3, "a,b,c"),
        (4, "row", 5, "1,2,3,4,5"),
    ]
    assert {bad.reason for bad in batch.broken} == {"expected 4 values, as the header has"}


def test_csv_quotes_hold_commas_quotes_and_line_ends(tmp_path: Path) -> None:
    text = HEADER + 'e1,t,u,"a, ""b""\nc"\n\n' + ROW
    batch = read(write(tmp_path, "x.csv", text))
    assert batch.frame["page"].to_list() == ['a, "b"\nc', "home"]
    assert batch.rows.tolist() == [2, 5]  # the line each starts at; the empty line is no row
    assert not batch.broken


@pytest.mark.parametrize("quote", ["", '"'])
def test_csv_values_beyond_128_kb_are_values(tmp_path: Path, quote: str) -> None:
    text = HEADER + f"e1,t,u,{quote}{'x' * 300_000}{quote}\n" + ROW + 'e2,t,u,"quoted"\n'
    batch = read(write(tmp_path, "x.csv", text))
    assert not batch.broken
    assert batch.frame["page"].str.len_bytes().to_list() == [300_000, 4, 6]


def test_a_quote_never_closed_costs_its_own_line_only(tmp_path: Path) -> None:
    text = HEADER + ROW + 'e2,t,u,"open\n' + ROW * 2500
    batches = list(read_batches(write(tmp_path, "x.csv", text), MAPPING))
    assert sum(batch.frame.height for batch in batches) == 2501
    (bad,) = [bad for batch in batches for bad in batch.broken]
    assert (bad.row, bad.record) == (3, 'e2,t,u,"open')
    assert bad.reason.startswith("expected quotes that are closed")


def test_a_quote_in_the_wrong_place_costs_its_own_line_only(tmp_path: Path) -> None:
    batch = read(write(tmp_path, "x.csv", HEADER + 'e2,t,u,"5" pipe\n' + ROW + 'e3,t,u,"x'))
    assert batch.rows.tolist() == [3]
    assert [bad.row for bad in batch.broken] == [2, 4]


def test_csv_that_is_not_utf8_keeps_its_bytes(tmp_path: Path) -> None:
    batch = read(write(tmp_path, "x.csv", (HEADER + ROW).encode() + b"e2,t,u,caf\xe9\n"))
    assert batch.frame["page"].to_list() == [b"home", b"caf\xe9"]
    assert batch.frame["id"].to_list() == ["e1", "e2"]


def test_a_row_of_the_wrong_width_that_is_not_utf8(tmp_path: Path) -> None:
    batch = read(write(tmp_path, "x.csv", (HEADER + ROW).encode() + b"caf\xe9,t\n"))
    assert [(bad.row, bad.record) for bad in batch.broken] == [(3, "caf\udce9,t")]


def test_csv_blocks_join_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "_BLOCK_BYTES", 64)
    rows = [f'e{n},t,u,"p\n{n}"\n' if n % 3 else f"e{n},t,u,p\n" for n in range(100)]
    batches = list(read_batches(write(tmp_path, "x.csv", HEADER + "".join(rows)), MAPPING))
    assert len(batches) > 10
    ids = [value for batch in batches for value in batch.frame["id"]]
    assert ids == [f"e{n}" for n in range(100)]
    lines = [row for batch in batches for row in batch.rows.tolist()]
    starts = [2 + n + sum(1 for m in range(n) if m % 3) for n in range(100)]
    assert lines == starts


def test_json_lines_that_are_none_are_dead_letters_with_their_text(tmp_path: Path) -> None:
    good = '{"id": "e1", "at": "t", "user": "u", "page": "p"}\n'
    bad = ['{"id": "e2",\n', "[1, 2]\n", "12\n", '{"id": NaN}\n', "[" * 20_000 + "\n"]
    content = ("\ufeff" + good + "\n" + "".join(bad) + good).encode() + b'{"id": "\xe9"}\n'
    batch = read(write(tmp_path, "x.jsonl", content))
    assert batch.rows.tolist() == [1, 8]
    assert [letter.row for letter in batch.broken] == [3, 4, 5, 6, 7, 9]
    assert {letter.reason for letter in batch.broken} == {"expected one JSON object a line"}
    assert batch.broken[0].record == b'{"id": "e2",'
    assert batch.broken[-1].record == b'{"id": "\xe9"}'


def test_json_values_of_several_types_become_texts(tmp_path: Path) -> None:
    values = [12, 12.5, "x", None, True]
    lines = [json.dumps({"id": n, "at": "t", "user": "u", "page": v}) for n, v in enumerate(values)]
    batch = read(write(tmp_path, "x.jsonl", "\n".join(lines)))
    assert batch.frame["page"].to_list() == ["12", "12.5", "x", None, "true"]
    assert batch.frame["id"].to_list() == [0, 1, 2, 3, 4]


def test_a_json_name_that_cannot_be_looked_up(tmp_path: Path) -> None:
    fields = {"event_id": 'i"d', "event_time": "at", "customer_id": "user"}
    mapping = parse_mapping({"fields": fields | {"event_type": {"constant": "login"}}})
    with pytest.raises(MappingError, match="names without quotes"):
        list(read_batches(write(tmp_path, "x.jsonl", "{}"), mapping))


def test_json_numbers_beyond_64_bits_are_kept(tmp_path: Path) -> None:
    line = '{"id": 123456789012345678901234567890, "at": "t", "user": "u", "page": 1e400}'
    batch = read(write(tmp_path, "x.ndjson", line + "\n" + line))
    assert batch.frame.height + len(batch.broken) == 2


def test_nested_json_is_a_dead_letter(tmp_path: Path) -> None:
    lines = [{"id": "a", "at": "t", "user": {"id": 1}}, {"id": "b", "at": "t", "user": "u"}]
    batch = read(write(tmp_path, "x.jsonl", "\n".join(map(json.dumps, lines))))
    assert batch.rows.tolist() == [2]
    assert (batch.broken[0].value, batch.broken[0].reason) == (
        {"id": 1},
        "expected one value in user, not a list or an object",
    )


def test_parquet_rows_count_from_1_across_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_rows, "BATCH_ROWS", 4)
    names = ["unused", "id", "at", "user", "page"]
    table = pa.table({name: [f"{name}{n}" for n in range(10)] for name in names})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=3)
    batches = list(read_batches(tmp_path / "x.parquet", MAPPING))
    assert [row for batch in batches for row in batch.rows.tolist()] == list(range(1, 11))
    assert batches[0].frame.columns == ["id", "at", "user", "page"]
    assert batches[-1].fraction == 1.0


def test_json_batches_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "BATCH_ROWS", 4)
    lines = [json.dumps({"id": n, "at": "t", "user": "u"}) for n in range(10)]
    lines[5] = "{"
    batches = list(read_batches(write(tmp_path, "x.jsonl", "\n".join(lines)), MAPPING))
    assert [batch.frame.height + len(batch.broken) for batch in batches] == [4, 4, 2]
    assert [row for b in batches for row in b.rows.tolist()] == [1, 2, 3, 4, 5, 7, 8, 9, 10]


def test_parquet_texts_that_are_not_utf8_keep_their_bytes(tmp_path: Path) -> None:
    table = pa.table({name: [b"a", b"caf\xe9"] for name in ("id", "at", "user", "page")})
    # Arrow writes what a careless producer would: bytes under a text type.
    broken = pa.Array.from_buffers(pa.string(), 2, table["page"].chunk(0).buffers())
    schema = pa.schema([(name, pa.string()) for name in table.column_names])
    texts = table.select(["id", "at", "user"]).slice(0, 2)
    columns = [pa.array(["a", "b"])] * texts.num_columns + [broken]
    pq.write_table(pa.table(columns, schema=schema), tmp_path / "x.parquet")
    batch = read(tmp_path / "x.parquet")
    assert batch.frame["page"].to_list() == [b"a", b"caf\xe9"]
    assert batch.frame["id"].to_list() == ["a", "b"]


@pytest.mark.parametrize(
    ("values", "read_as"),
    [
        (pa.array([1.5, 2.25], pa.float16()), [1.5, 2.25]),
        (pa.ExtensionArray.from_storage(pa.json_(), pa.array(["1", "{}"])), ["1", "{}"]),
        (pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0], pa.int8())), [1, 0]),
        (pa.array([b"a", b"b"], pa.binary_view()), [b"a", b"b"]),
    ],
)
def test_parquet_types_that_polars_has_no_text_of(
    tmp_path: Path, values: pa.Array, read_as: list[object]
) -> None:
    table = pa.table({name: ["1", "2"] for name in ("id", "at", "user")})
    pq.write_table(table.append_column("page", values), tmp_path / "x.parquet")
    page = read(tmp_path / "x.parquet").frame["page"]
    assert page.to_list() == read_as
    assert page.dtype != pl.Null
    texts = [v.decode() if isinstance(v, bytes) else str(v) for v in read_as]
    assert to_text(page).values.to_list() == texts


def test_parquet_dictionaries_and_zones_are_read_plainly(tmp_path: Path) -> None:
    at = pa.array([0, 1], pa.timestamp("ms", "America/New_York"))
    table = pa.table(
        {"id": ["a", "b"], "at": at, "user": pa.array(["u", "u"]).dictionary_encode()}
    ).append_column("page", pa.array(["p", None]))
    pq.write_table(table, tmp_path / "x.parquet")
    frame = read(tmp_path / "x.parquet").frame
    assert frame["user"].to_list() == ["u", "u"]
    assert frame["at"].dtype == pl.Datetime("ms", "UTC")
