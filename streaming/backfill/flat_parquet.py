"""Writes rows of numbers, instants and texts as Parquet, several times as fast as Arrow does.

Integers and instants are packed by their differences, floats lie plain, texts in dictionaries,
ids by their lengths; one page a column and row group, nothing compressed on top. What may lie in a
file is Parquet's format version 2 (https://parquet.apache.org/docs/file-format/), and any reader
of it reads these: Arrow, Polars and DuckDB are held to that by the tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_repo.contracts.events import TIMESTAMP
from streaming.backfill import packing
from streaming.backfill.thrift import Struct, varint

_MAGIC = b"PAR1"
_INT64, _DOUBLE, _BYTE_ARRAY = 2, 5, 6  # physical types
_PLAIN, _RLE, _DIFFERENCES, _LENGTHS, _DICTIONARY = 0, 3, 5, 6, 8  # encodings
_DATA_PAGE, _DICTIONARY_PAGE = 0, 2
_REQUIRED, _OPTIONAL = 0, 1
_UTF8, _TIMESTAMP_MICROS = 0, 10  # types of older readers
_BUFFER_BYTES = 1 << 18

_Words = npt.NDArray[np.int64]
_Buffer = bytes | memoryview


def is_flat(schema: pa.Schema) -> bool:
    """Whether a file of these columns can be written here: no lists, no types but those above."""
    return all(_physical(field.type) is not None for field in schema)


@contextmanager
def flat_parquet(path: Path, schema: pa.Schema, ids: frozenset[str]) -> Iterator[FlatWriter]:
    """A writer of a file, which is whole when the block ends without an error.

    `ids` names columns of texts that do not repeat.
    """
    with path.open("wb", buffering=_BUFFER_BYTES) as file:
        writer = FlatWriter(file, schema, ids)
        yield writer
        writer.finish()


@dataclass(frozen=True)
class _Chunk:
    """One column of one row group, as it lies in the file."""

    at: int
    dictionary_bytes: int  # of the dictionary's page, which comes first; 0: none
    size: int
    encoding: int
    span: tuple[int, int] | None


class FlatWriter:
    """Writes one row group a batch.

    Args:
        file: where to write, from its start on.
        schema: flat (`is_flat`).
        ids: columns of texts that do not repeat.
    """

    def __init__(self, file: BinaryIO, schema: pa.Schema, ids: frozenset[str] = frozenset()):
        self._file = file
        self._schema = schema
        self._ids = ids
        self._groups: list[tuple[int, list[_Chunk]]] = []
        self._block = np.empty(packing.BLOCK, np.uint64)
        self._out = np.empty(0, np.uint8)
        self._present = np.empty(0, np.int64)
        self._at = 0
        self._write(_MAGIC)

    def write_batch(self, rows: pa.RecordBatch) -> None:
        """Append rows of the writer's schema, as one row group; no rows are none.

        Raises:
            ValueError: a column has nulls where the schema has none.
        """
        if not len(rows):
            return
        self._make_room(len(rows))
        chunks = []
        for field, column in zip(self._schema, rows.columns, strict=True):
            if column.null_count and not field.nullable:
                raise ValueError(f"{field.name}: {column.null_count} nulls, none expected")
            chunks.append(self._column(field, column))
        self._groups.append((len(rows), chunks))

    def finish(self) -> None:
        """Write the file's metadata, after the last batch."""
        groups = [self._row_group(rows, chunks) for rows, chunks in self._groups]
        rows = sum(rows for rows, _ in self._groups)
        footer = Struct().i32(1, 2).structs(2, _schema_elements(self._schema)).i64(3, rows)
        footer.structs(4, groups).text(6, "daima version 1")
        # Bounds are those of the type's own order.
        footer.structs(7, [Struct().struct(1, Struct()) for _ in self._schema])
        raw = footer.done()
        self._write(raw, len(raw).to_bytes(4, "little"), _MAGIC)
        self._file.flush()

    def _make_room(self, rows: int) -> None:
        if len(self._present) < rows:
            self._present = np.empty(rows, np.int64)
            self._out = np.empty(packing.differences_room(rows), np.uint8)

    def _write(self, *parts: _Buffer) -> None:
        for part in parts:
            self._file.write(part)
            self._at += len(part)

    def _column(self, field: pa.Field, column: pa.Array) -> _Chunk:
        at, rows = self._at, len(column)
        bits = _validity(column)
        dictionary_bytes = 0
        body: list[_Buffer]
        if _physical(column.type) == _DOUBLE:
            encoding = _PLAIN
            body = [_memory(self._present_of(_words(column), bits))]
        elif _physical(column.type) == _INT64:
            encoding = _DIFFERENCES
            body = [self._differences(self._present_of(_words(column), bits))]
        elif field.name in self._ids:
            encoding = _LENGTHS
            body = self._texts_by_length(column.drop_null())
        else:
            encoding = _DICTIONARY
            encoded = _encoded(column)
            dictionary_bytes = self._dictionary_page(encoded.dictionary)
            codes = encoded.indices.fill_null(0).cast(pa.int64()).to_numpy()
            body = self._codes(self._present_of(codes, bits), len(encoded.dictionary))
        levels = _levels(rows, bits) if field.nullable else b""
        header = Struct().i32(1, rows).i32(2, encoding).i32(3, _RLE).i32(4, _RLE)
        self._page(_DATA_PAGE, header, [levels, *body])
        span = _span(column) if pa.types.is_timestamp(column.type) else None
        return _Chunk(at, dictionary_bytes, self._at - at, encoding, span)

    def _page(self, kind: int, header: Struct, body: list[_Buffer]) -> None:
        size = sum(len(part) for part in body)
        whole = Struct().i32(1, kind).i32(2, size).i32(3, size)
        self._write(whole.struct(7 if kind == _DICTIONARY_PAGE else 5, header).done(), *body)

    def _present_of(self, values: _Words, bits: npt.NDArray[np.uint8] | None) -> _Words:
        if bits is None:
            return values
        return self._present[: packing.present(values, bits, self._present)]

    def _differences(self, values: _Words) -> _Buffer:
        return _memory(self._out[: int(packing.pack_differences(values, self._block, self._out))])

    def _texts_by_length(self, texts: pa.Array) -> list[_Buffer]:
        ends, data = _text_buffers(texts)
        lengths = self._differences(np.diff(ends).astype(np.int64))
        return [lengths, _memory(data[ends[0] : ends[-1]])]

    def _dictionary_page(self, texts: pa.Array) -> int:
        ends, data = _text_buffers(texts)
        out = np.empty(4 * len(texts) + int(ends[-1] - ends[0]), np.uint8)
        packing.plain_texts(ends, data, out)
        at = self._at
        self._page(_DICTIONARY_PAGE, Struct().i32(1, len(texts)).i32(2, _PLAIN), [_memory(out)])
        return self._at - at

    def _codes(self, codes: _Words, texts: int) -> list[_Buffer]:
        width = max(1, (texts - 1).bit_length())
        size = int(packing.pack_bits(codes, np.uint64(width), self._block, self._out))
        run = varint(-(-len(codes) // 8) << 1 | 1)
        return [bytes([width]), run, _memory(self._out[:size])]

    def _row_group(self, rows: int, chunks: list[_Chunk]) -> Struct:
        columns = [
            Struct().i64(2, chunk.at).struct(3, _column_metadata(field, chunk, rows))
            for field, chunk in zip(self._schema, chunks, strict=True)
        ]
        size = sum(chunk.size for chunk in chunks)
        return Struct().structs(1, columns).i64(2, size).i64(3, rows).i64(5, chunks[0].at)


def _physical(kind: pa.DataType) -> int | None:
    if pa.types.is_dictionary(kind):
        return _BYTE_ARRAY if pa.types.is_string(kind.value_type) else None
    if pa.types.is_string(kind):
        return _BYTE_ARRAY
    if pa.types.is_float64(kind):
        return _DOUBLE
    return _INT64 if kind == TIMESTAMP or pa.types.is_int64(kind) else None


def _schema_elements(schema: pa.Schema) -> list[Struct]:
    elements = [Struct().i32(3, _REQUIRED).text(4, "schema").i32(5, len(schema))]
    for field in schema:
        physical = _physical(field.type)
        element = Struct().i32(1, physical if physical is not None else -1)
        element.i32(3, _OPTIONAL if field.nullable else _REQUIRED).text(4, field.name)
        if physical == _BYTE_ARRAY:
            element.i32(6, _UTF8).struct(10, Struct().struct(1, Struct()))
        elif pa.types.is_timestamp(field.type):
            micros = Struct().struct(2, Struct())
            instant = Struct().true(1).struct(2, micros)
            element.i32(6, _TIMESTAMP_MICROS).struct(10, Struct().struct(8, instant))
        elements.append(element)
    return elements


def _column_metadata(field: pa.Field, chunk: _Chunk, rows: int) -> Struct:
    encodings = [chunk.encoding, _RLE, *([_PLAIN] if chunk.dictionary_bytes else [])]
    found = Struct().i32(1, _physical(field.type) or 0).i32s(2, encodings).texts(3, [field.name])
    found.i32(4, 0).i64(5, rows).i64(6, chunk.size).i64(7, chunk.size)
    found.i64(9, chunk.at + chunk.dictionary_bytes)
    if chunk.dictionary_bytes:
        found.i64(11, chunk.at)
    if chunk.span is not None:
        least, most = (bound.to_bytes(8, "little", signed=True) for bound in chunk.span)
        found.struct(12, Struct().text(5, most).text(6, least))
    return found


def _span(column: pa.Array) -> tuple[int, int] | None:
    if column.null_count:
        return None
    instants = _words(column)
    return int(instants.min()), int(instants.max())


def _validity(column: pa.Array) -> npt.NDArray[np.uint8] | None:
    """One bit a row, the lowest first: whether it has a value; None: all have."""
    if not column.null_count:
        return None
    return _readonly(column.is_valid().buffers()[1], np.uint8, 0, -(-len(column) // 8))


def _levels(rows: int, bits: npt.NDArray[np.uint8] | None) -> bytes:
    """Which rows have a value: one run of ones, or Arrow's own bits, which are Parquet's."""
    if bits is None:
        runs = varint(rows << 1) + b"\1"
    else:
        runs = varint(len(bits) << 1 | 1) + bits.tobytes()
    return len(runs).to_bytes(4, "little") + runs


def _words(column: pa.Array) -> _Words:
    """The column's eight bytes a row, without a copy; whatever lies there where it is null."""
    return _readonly(column.buffers()[1], np.int64, column.offset * 8, len(column))


def _encoded(column: pa.Array) -> pa.DictionaryArray:
    """Texts as a dictionary without nulls in it and with no more texts than rows."""
    if pa.types.is_dictionary(column.type):
        if len(column.dictionary) <= len(column) and not column.dictionary.null_count:
            return column
        column = column.cast(column.type.value_type)
    return column.dictionary_encode()


def _text_buffers(texts: pa.Array) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """Offsets (n + 1,) and bytes of texts."""
    if not len(texts):
        return np.zeros(1, np.int32), np.empty(0, np.uint8)
    _, offsets, data = texts.buffers()
    ends = _readonly(offsets, np.int32, texts.offset * 4, len(texts) + 1)
    return ends, np.empty(0, np.uint8) if data is None else _readonly(data, np.uint8, 0, -1)


def _memory(numbers: npt.NDArray[Any]) -> memoryview:
    return numbers.view(np.uint8).data


def _readonly(buffer: pa.Buffer, kind: type, offset: int, count: int) -> npt.NDArray[Any]:
    return np.frombuffer(buffer, kind, count, offset)
