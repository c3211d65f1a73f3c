"""Tables of a view's rows, written a column at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from feast import FeatureView
from feast.value_type import ValueType

from feature_repo.stores.column_encoding import Encoded, encode_column, encode_timestamps
from feature_repo.stores.online_keys import text_keys, whole_number_keys
from feature_repo.stores.redis_layout import encode_created, encode_timestamp
from feature_repo.stores.table_packing import TablePacker

# Rows encoded at once: while the store takes in some, the next are made. The first are few, so that
# it begins early.
_FIRST_ROWS, _ROWS = 512, 4_096
_KEYS: dict[Any, tuple[Callable[..., Any], Callable[[Any], bool]]] = {
    ValueType.STRING: (
        text_keys,
        lambda kind: bool(pa.types.is_string(kind) or pa.types.is_large_string(kind)),
    ),
    ValueType.INT64: (whole_number_keys, lambda kind: bool(pa.types.is_signed_integer(kind))),
}


@dataclass(frozen=True)
class TableRows:
    """Rows to write.

    Attributes:
        table: with the columns below.
        stored: the name under which the view's features are stored.
        features: their value types.
        key: the join key's column.
        hashes: from the keys to names of hashes.
        at: the column of event times.
        created: the column of created times, if there is one.
    """

    table: pa.Table
    stored: str
    features: dict[str, Any]
    key: str
    hashes: Callable[[Any], list[bytes]]
    at: str
    created: str | None

    @classmethod
    def of(cls, table: pa.Table, view: FeatureView, stored: str, project: str) -> TableRows | None:
        """A view's rows; None where they have to go one by one (several join keys, odd types).

        Raises:
            ValueError: a column is missing.
        """
        source = view.batch_source
        created = source.created_timestamp_column or None
        features = {field.name: field.dtype.to_value_type() for field in view.features}
        keys = {column.name: column.dtype.to_value_type() for column in view.entity_columns}
        times = [source.timestamp_field, *([created] if created else [])]
        for name in (*features, *keys, *times):
            if name not in table.column_names:
                raise ValueError(f"Column {name} not found in table")
        if len(keys) != 1 or not features:
            return None
        ((key, kind),) = keys.items()
        if kind not in _KEYS:
            return None
        encoder, fits = _KEYS[kind]
        column = table.column(key)
        if column.null_count or not fits(column.type):
            return None
        if not all(_are_instants(table.column(name)) for name in times):
            return None
        return cls(table, stored, features, key, encoder(key, project), times[0], created)

    def pieces(self, rows_per_call: int) -> Iterator[tuple[memoryview, int]]:
        """Calls of the ordered write, and how many there are, a piece after the other.

        Raises:
            TypeError, ValueError, AssertionError: values do not fit a feature's type; pieces
                before have been made.
        """
        start, count = 0, _FIRST_ROWS
        while start < len(self.table):
            some = self.table.slice(start, count)
            yield from self._packed(some, rows_per_call).pieces()
            start, count = start + count, _ROWS

    def _packed(self, rows: pa.Table, rows_per_call: int) -> TablePacker:
        hashes = Encoded.of(self.hashes(rows.column(self.key).to_pylist()))
        columns = [encode_column(rows.column(name), kind) for name, kind in self.features.items()]
        names = list(self.features)
        at_us = _epochs_us(rows.column(self.at))
        if self.created is None and (at_us == at_us[0]).all():
            shared = encode_timestamp(int(at_us[0])), b""
            return TablePacker(self.stored, names, hashes, columns, rows_per_call, shared=shared)
        marks = [b""] * len(rows)
        if self.created is not None:
            created_us = _epochs_us(rows.column(self.created))
            marks = [encode_created(us) for us in created_us.tolist()]
        times = [encode_timestamps(at_us), Encoded.of(marks)]
        return TablePacker(self.stored, names, hashes, [*times, *columns], rows_per_call)


def _are_instants(column: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_timestamp(column.type)) and not column.null_count


def _epochs_us(column: pa.ChunkedArray) -> Any:
    """µs since 1970, shape (n,); what is finer is cut off."""
    cut = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    return cut.cast(pa.int64()).to_numpy()
