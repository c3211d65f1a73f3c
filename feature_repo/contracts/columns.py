"""The columns of an event that features and filters may use, with their value types."""

from __future__ import annotations

import pyarrow as pa

from feature_repo.contracts.definition import Dtype
from feature_repo.contracts.events import EVENT_SCHEMA

# Computed from the event's own fields where it is read.
DERIVED_COLUMNS: dict[str, tuple[Dtype, tuple[str, ...]]] = {
    "corridor": (Dtype.STRING, ("send_country", "receive_country")),
    "total_ref_minor": (Dtype.INT64, ("amount_ref_minor", "fee_ref_minor")),
}
_DTYPES = {pa.string(): Dtype.STRING, pa.int64(): Dtype.INT64, pa.float64(): Dtype.FLOAT64}
# Column -> value type; instants are not columns (windows and time_since read them).
COLUMN_DTYPES: dict[str, Dtype] = {
    field.name: _DTYPES[field.type] for field in EVENT_SCHEMA if field.type in _DTYPES
} | {name: dtype for name, (dtype, _) in DERIVED_COLUMNS.items()}


def sources_of(column: str) -> tuple[str, ...]:
    """The fields of the event schema that a column is made of.

    >>> sources_of("corridor"), sources_of("page")
    (('send_country', 'receive_country'), ('page',))
    """
    derived = DERIVED_COLUMNS.get(column)
    return derived[1] if derived else (column,)
