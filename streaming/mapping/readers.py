"""Read a source file in batches of rows, in bounded memory, with each row's place kept.

Whatever the format, a batch is a frame of the columns that the mapping reads; a row that cannot
even be read is a dead letter of the batch, and the rows around it are read all the same.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from feature_repo.contracts.errors import InputError
from streaming.mapping.csv_rows import csv_batches
from streaming.mapping.json_lines import json_batches
from streaming.mapping.parquet_rows import parquet_batches
from streaming.mapping.raw import RawBatch
from streaming.mapping.spec import Format, Mapping
from streaming.mapping.suggestions import listed

_SUFFIXES: dict[str, Format] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_READERS = {"parquet": parquet_batches, "csv": csv_batches, "jsonl": json_batches}
# A cut-off archive ends in EOFError, a damaged one in zlib's error: neither is an OSError.
_UNREADABLE = (OSError, EOFError, zlib.error, pa.ArrowException)


def read_batches(path: Path, mapping: Mapping) -> Iterator[RawBatch]:
    """The rows of a Parquet, CSV or JSON-lines file (the two texts also as .gz).

    Raises:
        InputError: at once when the file is missing, a folder, empty or of another format; at once
            or while iterating when it ends before its end (a cut-off archive, a damaged page).
        MappingError: the mapping reads a column that the file lacks, or in another type.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no file"
        raise InputError(
            "source", str(path), f"a file ({found} is there)", "check the path; one file at a time"
        )
    if path.stat().st_size == 0:
        raise InputError(
            "source", str(path), "a file with rows in it, not an empty one", "check it"
        )
    try:
        return _guarded(path, _READERS[_format(path, mapping)](path, mapping))
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def _format(path: Path, mapping: Mapping) -> Format:
    if mapping.source.format is not None:
        return mapping.source.format
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix not in _SUFFIXES:
        raise InputError(
            "source",
            str(path),
            f"a file ending in {listed(_SUFFIXES)} (or .gz behind it)",
            "say source.format in the mapping",
        )
    return _SUFFIXES[suffix]


def _guarded(path: Path, batches: Iterator[RawBatch]) -> Iterator[RawBatch]:
    try:
        yield from batches
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError("source", str(path), "a complete, readable file", f"get it again ({error})")
