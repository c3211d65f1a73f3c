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
        InputError: the file is no Parquet.
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
    kind = values.type
    if pa.types.is_dictionary(kind):
        values = values.cast(kind.value_type)
        kind = values.type
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


def _check_types(schema: pa.Schema, mapping: Mapping) -> None:
    for column in mapping.columns:
        if pa.types.is_nested(schema.field(column).type):
            raise MappingError(
                column, str(schema.field(column).type), "a column of single values", "name another"
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
