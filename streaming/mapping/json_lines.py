"""JSON lines: one object a line; any other line is a dead letter with its text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from feature_repo.contracts.errors import MappingError
from streaming.mapping.dead_letters import DeadLetter
from streaming.mapping.raw import BATCH_ROWS, CountedStream, RawBatch, text_column
from streaming.mapping.spec import Mapping

_BOM = b"\xef\xbb\xbf"
_NESTED = (dict, list)
_SAMPLES = 100  # objects whose names stand for the file's when a column is not found


def json_batches(path: Path, mapping: Mapping) -> Iterator[RawBatch]:
    """Batches of a file of JSON lines, packed with gzip or not; empty lines count for nothing.

    An object without a column is a row in which that column is missing.

    Raises:
        MappingError: no object of the first batch has a column without which no row can be an
            event (the other columns may be rare: ingestion reports those never seen), or a
            column has a name that cannot be looked up.
    """
    columns = mapping.columns
    decode = _decoder(columns)
    samples: list[bytes] = []
    checked = False
    objects: list[object] = []
    numbers: list[int] = []
    broken: list[DeadLetter] = []
    with CountedStream(path) as counted:

        def batch() -> RawBatch:
            frame, kept = _frame(objects, numbers, broken, columns)
            nonlocal checked
            if objects and not checked:
                _check(frame, samples, mapping)
                checked = True
            return RawBatch(frame, np.array(kept, np.int64), broken, counted.fraction)

        for number, line in enumerate(counted.bytes, start=1):
            content = line.removeprefix(_BOM) if number == 1 else line
            if not content.strip():
                continue
            try:
                objects.append(decode(content))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                text = content.rstrip(b"\r\n")
                reason = "expected one JSON object a line"
                broken.append(DeadLetter(number, "row", text, reason, text))
            else:
                numbers.append(number)
                if len(samples) < _SAMPLES:
                    samples.append(content)
            if len(objects) + len(broken) == BATCH_ROWS:
                yield batch()
                objects, numbers, broken = [], [], []
        if objects or broken:
            yield batch()


def _decoder(columns: tuple[str, ...]) -> Callable[[bytes], object]:
    """Decodes an object into its values of `columns` (as c0, c1, ...), None where absent."""
    names = [f"c{at}" for at in range(len(columns))]
    try:
        row = msgspec.defstruct(
            "Row",
            [(name, Any, None) for name in names],
            rename=dict(zip(names, columns, strict=True)),
            gc=False,  # many and short-lived: the garbage collector need not follow them
        )
    except ValueError as error:
        raise MappingError(
            "fields", expected="column names without quotes and backslashes", action=str(error)
        ) from error
    return msgspec.json.Decoder(row).decode


def _check(frame: pl.DataFrame, samples: list[bytes], mapping: Mapping) -> None:
    """Hold the mapping's indispensable columns against the first batch."""
    names = {key: None for line in samples for key in msgspec.json.decode(line)}
    names |= {column: None for column in frame.columns if frame[column].count()}
    mapping.check_columns(tuple(names), mapping.required_columns)


def _frame(
    objects: list[object],
    numbers: list[int],
    broken: list[DeadLetter],
    columns: tuple[str, ...],
) -> tuple[pl.DataFrame, list[int]]:
    """The objects' columns and their line numbers; objects with nested values become `broken`."""
    values = {column: list(map(attrgetter(f"c{at}"), objects)) for at, column in enumerate(columns)}
    kinds = {column: set(map(type, items)) for column, items in values.items()}
    nested = [column for column in columns if not kinds[column].isdisjoint(_NESTED)]
    if nested:
        kept = []
        for at, number in enumerate(numbers):
            bad = next((c for c in nested if isinstance(values[c][at], _NESTED)), None)
            if bad is None:
                kept.append(at)
            else:
                record = {column: values[column][at] for column in columns}
                reason = f"expected one value in {bad}, not a list or an object"
                broken.append(DeadLetter(number, "row", values[bad][at], reason, record))
        objects = [objects[at] for at in kept]
        return _frame(objects, [numbers[at] for at in kept], broken, columns)
    series = [_column(values[column], kinds[column]).alias(column) for column in columns]
    return pl.DataFrame(series), numbers


def _column(values: list[Any], kinds: set[type]) -> pl.Series:
    """A column of one type; of texts where the objects differ in theirs (12 and 12.5 and "x")."""
    kinds = kinds - {type(None)}
    if kinds <= {bool} or kinds == {float}:
        return pl.Series(values, dtype=pl.Boolean if bool in kinds else pl.Float64)
    if kinds == {int}:
        try:
            return pl.Series(values, dtype=pl.Int64)
        except (OverflowError, TypeError):
            pass  # beyond 64 bits
    if kinds != {str}:
        values = [None if value is None else _text(value) for value in values]
    return text_column(values)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)
