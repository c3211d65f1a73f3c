"""Hold events that already are in the event schema to its rules: what a producer's batch must pass.

A batch from a live log never went through a mapping, so anything that 64 bits and a few bytes can
say may stand in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import cast

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from feature_repo.contracts.errors import InputError
from feature_repo.contracts.events import EVENT_SCHEMA, TIMESTAMP
from streaming.mapping.checks import CHECKED_COLUMNS, Violation, canonical_violations
from streaming.mapping.dead_letters import DeadLetter

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def split_valid(batch: pa.RecordBatch, first_row: int) -> tuple[pa.RecordBatch, list[DeadLetter]]:
    """The events of a batch that `Event.validated()` would pass, and a letter for each other one.

    Args:
        batch: n events of `EVENT_SCHEMA`, amounts in the reference currency included.
        first_row: place of the first event; letters count on from it.

    Returns:
        The valid events in their order (the batch itself where all are), and letters by row. A
        letter's record is the whole event; an instant beyond Python's calendar is its number (µs).

    Raises:
        InputError: the batch has other columns, or its buffers do not hold what they say: nothing
            in it can be told apart.

    Trap: never call `to_pylist` on a batch that has not been through here: an instant beyond the
    calendar or a text that is not UTF-8 raises there.
    """
    if batch.schema.names != EVENT_SCHEMA.names or batch.schema.types != EVENT_SCHEMA.types:
        raise InputError(
            "events", str(batch.schema), "the columns of EVENT_SCHEMA", "mend the producer"
        )
    wrong = _not_utf8(batch)
    if wrong:
        # The rules read texts only as texts; the first violation is the one reported.
        unreadable = np.logical_or.reduce([item.rows.to_numpy() for item in wrong])
        readable = _without(batch, unreadable)
        wrong += _spread(canonical_violations(_frame(readable)), ~unreadable)
    else:
        wrong = list(canonical_violations(_frame(batch)))
    if not wrong:
        return batch, []
    first = np.full(len(batch), -1)
    for at, violation in enumerate(wrong):
        first[violation.rows.to_numpy() & (first < 0)] = at
    bad = np.flatnonzero(first >= 0)
    letters = [
        DeadLetter(
            first_row + row,
            wrong[first[row]].field,
            record[wrong[first[row]].field],
            f"expected {wrong[first[row]].expected}",
            record,
        )
        for row, record in zip(bad.tolist(), _records(batch.take(pa.array(bad))), strict=True)
    ]
    return _without(batch, first >= 0), letters


def _without(batch: pa.RecordBatch, rows: npt.NDArray[np.bool_]) -> pa.RecordBatch:
    return batch.filter(pa.array(~rows))


def _spread(violations: Iterator[Violation], kept: npt.NDArray[np.bool_]) -> list[Violation]:
    """Violations among the rows kept, as violations among all rows."""
    places = np.flatnonzero(kept)
    spread = []
    for violation in violations:
        rows = np.zeros(len(kept), np.bool_)
        rows[places[violation.rows.to_numpy()]] = True
        spread.append(Violation(violation.field, pl.Series(rows), violation.expected))
    return spread


def _frame(batch: pa.RecordBatch) -> pl.DataFrame:
    return cast(pl.DataFrame, pl.from_arrow(batch.select(CHECKED_COLUMNS)))


def _not_utf8(batch: pa.RecordBatch) -> list[Violation]:
    """Texts that are none: Arrow hands on whatever bytes a producer sent."""
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        found = [
            Violation(field.name, _undecodable(column), "text in UTF-8")
            for field, column in zip(EVENT_SCHEMA, batch.columns, strict=True)
        ]
        return [violation for violation in found if violation.rows.any()]
    return []


def _undecodable(column: pa.Array) -> pl.Series:
    """The values (n flags) that are not UTF-8; one by one, for they are rare."""
    try:
        raw = column.cast(pa.binary()) if pa.types.is_string(column.type) else column
        raw.validate(full=True)
    except pa.ArrowInvalid as error:
        raise InputError(
            "events", expected="a sound Arrow batch", action=f"mend the producer ({error})"
        ) from error
    if raw is column:
        return pl.repeat(False, len(column), eager=True)
    return pl.Series([isinstance(_text(value), bytes) for value in raw.to_pylist()])


def _text(value: bytes | None) -> str | bytes | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return value


def _records(batch: pa.RecordBatch) -> Iterator[dict[str, object]]:
    """The events as records, whatever stands in them."""
    columns: list[list[object]] = []
    for field, column in zip(EVENT_SCHEMA, batch.columns, strict=True):
        if pa.types.is_string(field.type):
            columns.append([_text(value) for value in column.cast(pa.binary()).to_pylist()])
        elif field.type == TIMESTAMP:
            columns.append([_instant(value) for value in column.cast(pa.int64()).to_pylist()])
        else:
            columns.append(column.to_pylist())
    for values in zip(*columns, strict=True):
        yield dict(zip(EVENT_SCHEMA.names, values, strict=True))


def _instant(epoch_us: int | None) -> datetime | int | None:
    try:
        return None if epoch_us is None else _EPOCH + timedelta(microseconds=epoch_us)
    except OverflowError:
        return epoch_us
