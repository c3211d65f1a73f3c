"""Takes a customer's rows out of the files under daima's home: tables, event files, letters.

Each file is replaced by one without the rows, in one step; files that have none are not touched.
Row groups stay apart, so that a reader who has looked at the former file finds its way.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo.contracts.errors import DaimaError
from streaming.offline_files import OfflineName, sync, write_options

# What a customer's id is called: in events and feature rows, in the logs of predictions.
COLUMNS = ("customer_id", "customer")
_LETTERS = ".jsonl"
_TABLES = ".parquet"
# Kept by servers and by runs, and no business of ours.
_SKIPPED = frozenset({"valkey", "logs", "mlruns", "mlartifacts"})


class PurgeError(DaimaError):
    """A file cannot be read, so nobody knows whether the customer is in it."""


@dataclass
class PurgeReport:
    """What a purge did: files rewritten, rows taken out of them."""

    files: int = 0
    rows: int = 0


@dataclass(frozen=True)
class Later:
    """Files that hold nothing of before: a stream that goes on has written them since.

    Attributes:
        partition: the customer's, of the log.
        generation: in force; files of it count that begin after the offset.
        offset: up to which the log counts no more.
    """

    partition: int
    generation: int
    offset: int

    def __contains__(self, path: Path) -> bool:
        name = OfflineName.parse(path.name)
        return (
            name is not None
            and name.partition == self.partition
            and name.generation.isdecimal()
            and int(name.generation) >= self.generation
            and name.offset > self.offset
        )


def purge(
    home: Path,
    customer: str,
    later: Later | None = None,
    progress: Callable[[int], None] = lambda files: None,
) -> PurgeReport:
    """Take a customer's rows out of every Parquet file, and of the dead letters.

    Args:
        home: folder of everything written locally.
        later: files of the archive and of live rows that are left alone.
        progress: called with the number of files just dealt with.

    Raises:
        PurgeError: a file cannot be read.
    """
    report = PurgeReport()
    for path in _files(home):
        if later is None or path not in later:
            rows = (
                _purge_table(path, customer)
                if path.suffix == _TABLES
                else _purge_letters(path, customer)
            )
            report.rows += rows
            report.files += rows > 0
        progress(1)
    return report


def _files(home: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(home):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        for name in sorted(names):
            if name.endswith((_TABLES, _LETTERS)) and not name.startswith("."):
                yield Path(folder, name)


def _purge_table(path: Path, customer: str) -> int:
    """Rewrite a Parquet file without a customer's rows; returns how many they were."""
    try:
        with pq.ParquetFile(path) as file:
            column = next((name for name in COLUMNS if name in file.schema_arrow.names), None)
            if column is None:
                return 0
            found = [
                int(pc.sum(_is(file.read_row_group(at, [column]).column(0), customer)).as_py() or 0)
                for at in range(file.metadata.num_row_groups)
            ]
            if any(found):
                _rewrite(path, file, column, customer)
    except FileNotFoundError:  # merged into another since the folder was read
        return 0
    except (pa.ArrowInvalid, OSError) as error:
        raise PurgeError(
            str(path), str(error), "a readable Parquet file", "remove or mend it, then run it again"
        ) from error
    return sum(found)


def _rewrite(path: Path, file: pq.ParquetFile, column: str, customer: str) -> None:
    schema = file.schema_arrow
    ours = OfflineName.parse(path.name) is not None
    options: dict[str, Any] = write_options(schema) if ours else {}
    unfinished = path.with_name(f".{path.name}.part")
    with pq.ParquetWriter(unfinished, schema, **options) as writer:
        for at in range(file.metadata.num_row_groups):
            rows = file.read_row_group(at)
            kept = rows.filter(pc.invert(_is(rows.column(column), customer)))
            writer.write_table(kept, row_group_size=max(1, len(kept)))
    sync([unfinished])
    unfinished.replace(path)
    sync([path.parent])


def _is(column: pa.ChunkedArray, customer: str) -> pa.ChunkedArray:
    return pc.fill_null(pc.equal(column.cast(pa.string()), customer), False)


def _purge_letters(path: Path, customer: str) -> int:
    """Rewrite a file of JSON lines without those that name a customer.

    Trap: a stream that goes on appends to its newest file; what it appends during the rewriting
    is appended again here, by length.
    """
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if not _names(line, customer)]
    if len(kept) == len(lines):
        return 0
    # In place: a stream has the file open for appending, and would go on in one without a name.
    with path.open("r+b") as file:
        content = b"".join(kept) + file.read()[sum(map(len, lines)) :]
        file.seek(0)
        file.write(content)
        file.truncate()
        os.fsync(file.fileno())
    return len(lines) - len(kept)


def _names(line: bytes, customer: str) -> bool:
    if customer.encode() not in line and b"\\u" not in line:
        return False
    try:
        return _holds(msgspec.json.decode(line), customer)
    except msgspec.DecodeError:
        return _within(customer).search(line.decode(errors="replace")) is not None


@cache
def _within(customer: str) -> re.Pattern[str]:
    """A customer's id as a word of its own: `c1` is not in `c17`."""
    return re.compile(rf"(?<![\w-]){re.escape(customer)}(?![\w-])")


def _holds(value: object, customer: str) -> bool:
    match value:
        case str():
            # A row that could not be read is kept as the text that it was.
            return value == customer or _within(customer).search(value) is not None
        case dict():
            return any(_holds(each, customer) for each in value.values())
        case list():
            return any(_holds(each, customer) for each in value)
    return False
