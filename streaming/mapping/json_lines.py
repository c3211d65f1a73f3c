"""JSON lines: one object a line; any other line is a dead letter with its text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import polars as pl

from streaming.mapping.dead_letters import DeadLetter
from streaming.mapping.raw import BATCH_ROWS, CountedStream, RawBatch, text_column
from streaming.mapping.spec import Mapping

_BOM = b"\xef\xbb\xbf"
_NESTED = (dict, list)
_decode = msgspec.json.Decoder(dict[str, object]).decode


def json_batches(path: Path, mapping: Mapping) -> Iterator[RawBatch]:
    """Batches of a file of JSON lines, packed with gzip or not; empty lines count for nothing.

    An object without a column is a row in which that column is missing.

    Raises:
        MappingError: no object of the first batch has a column without which no row can be an
            event. (The other columns may be rare: ingestion reports those never seen.)
    """
    columns = mapping.columns
    checked = False
    objects: list[dict[str, object]] = []
    numbers: list[int] = []
    broken: list[DeadLetter] = []
    with CountedStream(path) as counted:

        def batch() -> RawBatch:
            frame, kept = _frame(objects, numbers, broken, columns)
            return RawBatch(frame, np.array(kept, np.int64), broken, counted.fraction)

        for number, line in enumerate(counted.bytes, start=1):
            content = line.removeprefix(_BOM) if number == 1 else line
            if not content.strip():
                continue
            try:
                objects.append(_decode(content))
                numbers.append(number)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                text = content.rstrip(b"\r\n")
                broken.append(DeadLetter(number, "row", text, "one JSON object a line", text))
            if len(objects) + len(broken) == BATCH_ROWS:
                checked = checked or _check(objects, mapping)
                yield batch()
                objects, numbers, broken = [], [], []
        if objects or broken:
            checked = checked or _check(objects, mapping)
            yield batch()


def _check(objects: list[dict[str, object]], mapping: Mapping) -> bool:
    """Hold the mapping's indispensable columns against the objects read; False if there is none."""
    if objects:
        seen = dict.fromkeys(key for item in objects for key in item)
        mapping.check_columns(tuple(seen), mapping.required_columns)
    return bool(objects)


def _frame(
    objects: list[dict[str, object]],
    numbers: list[int],
    broken: list[DeadLetter],
    columns: tuple[str, ...],
) -> tuple[pl.DataFrame, list[int]]:
    """The objects' columns and their line numbers; objects with nested values become `broken`."""
    values = {column: [item.get(column) for item in objects] for column in columns}
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
                reason = f"one value in {bad}, not a list or an object"
                broken.append(DeadLetter(number, "row", values[bad][at], reason, record))
        objects = [objects[at] for at in kept]
        return _frame(objects, [numbers[at] for at in kept], broken, columns)
    series = [_column(values[column], kinds[column]).alias(column) for column in columns]
    return pl.DataFrame(series), numbers


def _column(values: list[object], kinds: set[type]) -> pl.Series:
    """A column of one type; of texts where the objects differ in theirs (12 and 12.5 and "x")."""
    kinds = kinds - {type(None)}
    if kinds <= {bool} or kinds == {float}:
        return pl.Series(values, dtype=pl.Boolean if bool in kinds else pl.Float64)
    if kinds == {int}:
        try:
            return pl.Series(values, dtype=pl.Int64)
        except (OverflowError, TypeError):
            pass
    return text_column([None if value is None else _text(value) for value in values])


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)
