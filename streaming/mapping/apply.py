"""Apply a mapping: raw batch in, events in `EVENT_SCHEMA` and dead letters out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from feature_repo.contracts.events import EVENT_SCHEMA
from feature_repo.contracts.money import ExchangeRates
from streaming.mapping.checks import Violation, violations
from streaming.mapping.convert import Converted, fault, to_minor, to_number, to_text
from streaming.mapping.dead_letters import DeadLetter
from streaming.mapping.instants import to_instant
from streaming.mapping.labels import label_events, label_violations
from streaming.mapping.raw import RawBatch
from streaming.mapping.spec import KINDS, FieldSource, Kind, Mapping
from streaming.mapping.temporal import instant_text, is_instant

_POLARS_TYPES = dict(pl.DataFrame(EVENT_SCHEMA.empty_table()).schema)


@dataclass(frozen=True)
class MappedBatch:
    """What became of one raw batch: every one of its rows is in exactly one place.

    Attributes:
        events: n events in the order of the source, with amounts in the reference currency.
        rows: n places in the source.
        labels: the label events that rows give beside their own (none without `label:`).
        label_rows: their places in the source.
        skipped: rows that the mapping says are no events.
        letters: rows that do not fit, the unreadable ones included.
    """

    events: pa.RecordBatch
    rows: npt.NDArray[np.int64]
    labels: pa.RecordBatch
    label_rows: npt.NDArray[np.int64]
    skipped: int
    letters: list[DeadLetter]


def map_batch(
    raw: RawBatch, mapping: Mapping, rates: ExchangeRates, source_name: str
) -> MappedBatch:
    """Map a batch; `source_name` opens the ids of events that are numbered by row."""
    frame, rows = raw.frame, raw.rows
    skip = _skipped(frame, mapping)
    skipped = 0 if skip is None else int(skip.sum())
    if skip is not None and skipped:
        keep = ~skip
        frame, rows = frame.filter(keep), rows[keep.to_numpy()]
    wrong: list[Violation] = []
    columns: dict[str, pl.Series] = {}
    # Amounts in major units need their currency first.
    for name in sorted(mapping.fields, key=lambda field: KINDS[field] is Kind.AMOUNT):
        field = mapping.fields[name]
        values, faults = _field(
            name,
            field,
            frame,
            rows=rows,
            source_name=source_name,
            currency=columns.get("currency"),
        )
        columns[name] = values
        wrong += [Violation(name, *item) for item in faults]
    events = pl.DataFrame(
        [
            columns[name].alias(name).cast(dtype)
            if name in columns
            else pl.repeat(None, frame.height, dtype=dtype, eager=True).alias(name)
            for name, dtype in _POLARS_TYPES.items()
        ]
    )
    wrong += violations(events, rates)
    marks: pl.Series | None = None
    if mapping.label is not None:
        marks, faults = _number(frame[mapping.label.value])
        wrong += label_violations(events, mapping.label, faults)
    bad, letters = _letters(wrong, frame, rows, mapping)
    if letters:
        good = ~pl.Series(bad)
        events, rows = events.filter(good), rows[~bad]
        marks = None if marks is None else marks.filter(good)
    labels, label_rows = events.clear(), rows[:0]
    if mapping.label is not None and marks is not None:
        labels = label_events(events, marks, mapping.label)
        label_rows = rows[marks.is_not_null().to_numpy()]
    return MappedBatch(
        rates.with_reference_amounts(_record_batch(events)),
        rows,
        _record_batch(labels),
        label_rows,
        skipped,
        sorted(raw.broken + letters, key=lambda letter: letter.row),
    )


def _skipped(frame: pl.DataFrame, mapping: Mapping) -> pl.Series | None:
    """Rows in which all columns of `skip_where` have their values; None without such a clause."""
    every: pl.Series | None = None
    for column, value in mapping.source.skip_where.items():
        cells = frame[column]
        same = to_text(cells).values == (value.lower() if cells.dtype == pl.Boolean else value)
        same = same.fill_null(False)
        every = same if every is None else every & same
    return every


def _field(
    name: str,
    field: FieldSource,
    frame: pl.DataFrame,
    *,
    rows: npt.NDArray[np.int64],
    source_name: str,
    currency: pl.Series | None,
) -> Converted:
    """One event field of all rows."""
    kind = KINDS[name]
    if kind is Kind.TIME and field.column is not None:
        return to_instant(frame[field.column], field.unit, field.format, field.timezone)
    if field.column is not None:
        column = frame[field.column]
    elif field.constant is not None:
        column = pl.repeat(field.constant, frame.height, eager=True)
    elif field.row_number:
        column = source_name + "-" + pl.Series(rows).cast(pl.String)
    else:
        return _translated(_joined(frame, field), field)
    if kind is Kind.NUMBER:
        return _number(column)
    if kind is Kind.AMOUNT:
        if currency is None:
            currency = pl.repeat(None, frame.height, dtype=pl.String, eager=True)
        return to_minor(column, field.unit or "", currency)
    return _translated(to_text(column), field)


def _number(column: pl.Series) -> Converted:
    return to_number(column.cast(pl.Int8) if column.dtype == pl.Boolean else column)


def _joined(frame: pl.DataFrame, field: FieldSource) -> Converted:
    """The texts of several columns joined; missing where one of them is."""
    parts = [to_text(frame[column]) for column in field.columns]
    faults = tuple(item for part in parts for item in part.faults)
    texts = pl.DataFrame([part.values.alias(str(at)) for at, part in enumerate(parts)])
    joined = texts.select(pl.concat_str(pl.all(), separator=field.join)).to_series()
    return Converted(joined, faults)


def _translated(text: Converted, field: FieldSource) -> Converted:
    values, faults = text
    if field.translate:
        before = values
        values = before.replace_strict(field.translate, default=None, return_dtype=pl.String)
        if field.default is None:
            missed = before.is_not_null() & values.is_null()
            faults += fault(missed, "a value that the mapping translates")
    if field.default is not None:
        values = values.fill_null(field.default)
    if (values == "").any():  # a translation or default that says: leave it empty
        values = pl.select(pl.when(values != "").then(values)).to_series()
    return Converted(values, faults)


def _letters(
    wrong: list[Violation],
    frame: pl.DataFrame,
    rows: npt.NDArray[np.int64],
    mapping: Mapping,
) -> tuple[npt.NDArray[np.bool_], list[DeadLetter]]:
    """The rows with something wrong (n flags), and a letter for the first such thing of each."""
    first = np.full(frame.height, -1)
    for at, violation in enumerate(wrong):
        first[violation.rows.to_numpy() & (first < 0)] = at
    bad = np.flatnonzero(first >= 0)
    if not len(bad):
        return first >= 0, []
    records = frame[bad].with_columns(
        instant_text(frame[name][bad]).alias(name)
        for name, dtype in frame.schema.items()
        if is_instant(dtype)
    )
    letters = []
    for at, record in zip(bad.tolist(), records.iter_rows(named=True), strict=True):
        violation = wrong[first[at]]
        source = mapping.fields.get(violation.field)
        if violation.field == "label_value" and mapping.label is not None:
            value = record[mapping.label.value]
        elif source is None:
            value = None
        elif source.reads:
            read = [record[column] for column in source.reads]
            value = read[0] if len(read) == 1 else read
        else:
            value = source.constant
        letters.append(
            DeadLetter(
                int(rows[at]), violation.field, value, f"expected {violation.expected}", record
            )
        )
    return first >= 0, letters


def _record_batch(events: pl.DataFrame) -> pa.RecordBatch:
    table = events.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(EVENT_SCHEMA)
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], EVENT_SCHEMA)
