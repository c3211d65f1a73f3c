"""Parquet: only the columns that the mapping reads, in their own types."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.contracts.errors import InputError, MappingError
from streaming.mapping.raw import BATCH_ROWS, RawBatch
from streaming.mapping.spec import KINDS, Kind, Mapping


def parquet_batches(path: Path, mapping: Mapping) -> Iterator[RawBatch]:
    """Batches of a Parquet file; rows count from 1.

    Raises:
        InputError: the file is no Parquet, or has a column that the mapping reads twice.
        MappingError: it lacks a column that the mapping reads, or has it in a type that the
            mapping does not fit.
    """
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            "source", str(path), "a Parquet file", f"check the file or source.format ({error})"
        ) from error
    mapping.check_columns(schema.names)
    for column in mapping.columns:
        if schema.names.count(column) > 1:
            raise InputError(
                "source",
                str(path),
                f"one column named {column}, not {schema.names.count(column)}",
                "rename one",
            )
    _check_types(schema, mapping)
    return _batches(path, mapping.columns)


def _batches(path: Path, columns: tuple[str, ...]) -> Iterator[RawBatch]:
    done = 0
    # Without read-ahead memory is bounded by a column chunk, not by a row group.
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
        total = file.metadata.num_rows
        for batch in file.iter_batches(BATCH_ROWS, columns=list(columns)):
            size = batch.num_rows
            frame = pl.DataFrame([_column(batch.column(name)).alias(name) for name in columns])
            rows = np.arange(done + 1, done + size + 1, dtype=np.int64)
            done += size
            yield RawBatch(frame, rows, [], done / total)


def _column(values: pa.Array) -> pl.Series:
    kind = _plain_type(values.type)
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    if values.type != kind:
        values = values.cast(kind)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        try:
            # Arrow hands on whatever bytes the file has; polars takes their validity for granted.
            values.validate(full=True)
        except pa.ArrowInvalid:
            large = pa.types.is_large_string(kind)
            values = values.cast(pa.large_binary() if large else pa.binary())
    elif pa.types.is_timestamp(kind) and kind.tz is not None:
        values = values.cast(pa.timestamp(kind.unit, "UTC"))
    return cast(pl.Series, pl.from_arrow(values))


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """The type of a column's values as they are handed to polars."""
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if isinstance(kind, pa.BaseExtensionType):  # polars has no text of these
        return kind.storage_type
    if pa.types.is_float16(kind):  # floor() of polars 2.1 takes 1.5 for whole
        return pa.float32()
    return kind


def _check_types(schema: pa.Schema, mapping: Mapping) -> None:
    for column in mapping.columns:
        kind = _plain_type(schema.field(column).type)
        if not any(known(kind) for known in _KNOWN) or pa.types.is_decimal256(kind):
            raise MappingError(
                column,
                str(schema.field(column).type),
                "a column of single values: texts, numbers (decimals of up to 38 digits), truth"
                " values or points in time",
                "name another, or write it as text",
            )
    for name, field in mapping.fields.items():
        for column in field.reads:
            kind = schema.field(column).type
            number = (
                pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
            )
            if KINDS[name] is Kind.TIME and number and not (field.unit or field.format):
                raise MappingError(
                    f"fields.{name}.unit",
                    expected=f"a unit, since {column} is a number ({kind})",
                    action="add unit: us, ms or s",
                )
    for column, value in mapping.source.skip_where.items():
        if pa.types.is_boolean(schema.field(column).type) and value.lower() not in _BOOLEANS:
            raise MappingError(
                f"source.skip_where.{column}", value, "true or false, as the column", "write one"
            )


_BOOLEANS = ("true", "false")
# The others (lists, durations, ...) polars cannot write as text: an error, or an end by panic.
_KNOWN = (
    pa.types.is_null,
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
    pa.types.is_date,
    pa.types.is_time,
    pa.types.is_timestamp,
)
