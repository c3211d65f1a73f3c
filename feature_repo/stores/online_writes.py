"""Rows of Feast's as calls of the ordered write: many rows of a view a call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from feast import FeatureView
from feast.protos.feast.types.Value_pb2 import Value
from feast.value_type import ValueType

from feature_repo.contracts.events import to_epoch_us
from feature_repo.stores.column_encoding import Encoded, encode_column, encode_timestamps
from feature_repo.stores.fenced_writes import ORDERED_WRITE, ORDERED_WRITE_SHA
from feature_repo.stores.online_keys import ProtoKeys, text_keys, whole_number_keys
from feature_repo.stores.online_link import Command, Script
from feature_repo.stores.redis_layout import (
    created_field,
    encode_created,
    encode_timestamp,
    field_name,
    timestamp_field,
)
from feature_repo.stores.table_packing import TablePacker

SCRIPT = Script(ORDERED_WRITE, ORDERED_WRITE_SHA)
# Entity key, values by feature, event time, created time; naive instants are UTC.
Row = tuple[Any, dict[str, Any], datetime, datetime | None]


class RowPacker:
    """Packs rows of one view.

    Args:
        view: the name under which its features are stored.
        rows_per_call: rows of one call of the script; it holds up others for as long.
    """

    def __init__(self, view: str, project: str, rows_per_call: int) -> None:
        self._head = [timestamp_field(view), created_field(view)]
        self._view = view
        self._key = ProtoKeys(project)
        self._rows_per_call = rows_per_call

    def calls(self, rows: Sequence[Row]) -> Iterator[Command]:
        """The calls that write the rows, in their order."""
        serialize = Value.SerializeToString
        source = iter(rows)
        names: tuple[str, ...] | None = None
        fields: list[bytes] = []
        keys: list[bytes] = []
        arguments: list[bytes] = []
        last: datetime | None = None
        stamp = b""
        while some := list(islice(source, self._rows_per_call)):
            for entity_key, values, at, created in some:
                asked = tuple(values)
                if asked != names:
                    if keys:
                        yield SCRIPT.call(keys, arguments)
                    names, keys = asked, []
                    fields = [field_name(self._view, name) for name in asked]
                    fields = [*self._head, b"%d" % len(fields), *fields]
                    arguments = fields.copy()
                if at is not last:
                    last, stamp = at, encode_timestamp(_epoch_us(at))
                keys.append(self._key(entity_key))
                arguments += (
                    stamp,
                    b"" if created is None else encode_created(_epoch_us(created)),
                    *map(serialize, values.values()),
                )
            yield SCRIPT.call(keys, arguments)
            keys, arguments = [], fields.copy()


def _epoch_us(instant: datetime) -> int:
    return to_epoch_us(instant if instant.tzinfo else instant.replace(tzinfo=UTC))


def pack_table(
    table: pa.Table, view: FeatureView, stored: str, project: str, rows_per_call: int
) -> TablePacker | None:
    """A table's rows, packed a column at a time; None where only Feast knows how.

    Args:
        stored: the name under which the view's features are stored.

    Raises:
        ValueError: a column is missing.
    """
    source = view.batch_source
    created = source.created_timestamp_column or None
    features = {field.name: field.dtype.to_value_type() for field in view.features}
    keys = {column.name: column.dtype.to_value_type() for column in view.entity_columns}
    wanted = [*features, *keys, source.timestamp_field, *([created] if created else [])]
    for name in wanted:
        if name not in table.column_names:
            raise ValueError(f"Column {name} not found in table")
    if len(keys) != 1 or not features:
        return None
    (join_key, kind), *_ = keys.items()
    encoder = _KEYS.get(kind)
    plain = table.column(join_key)
    times = [_epochs_us(table.column(source.timestamp_field))]
    times += [_epochs_us(table.column(created))] if created else []
    if encoder is None or plain.null_count or any(each is None for each in times):
        return None
    if not encoder[1](plain.type):
        return None
    at_us, *created_us = times
    stamps = encode_timestamps(at_us)
    count = len(table)
    marks = (
        Encoded.of([encode_created(us) for us in created_us[0].tolist()])
        if created_us
        else Encoded(np.zeros(count + 1, np.int64), np.empty(0, np.uint8))
    )
    columns = [encode_column(table.column(name), declared) for name, declared in features.items()]
    hashes = Encoded.of(encoder[0](join_key, project)(plain.to_pylist()))
    return TablePacker(stored, list(features), hashes, [stamps, marks, *columns], rows_per_call)


_KEYS = {
    ValueType.STRING: (
        text_keys,
        lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind),
    ),
    ValueType.INT64: (whole_number_keys, pa.types.is_signed_integer),
}


def _epochs_us(column: pa.ChunkedArray) -> Any:
    """µs since 1970, shape (n,), finer ones cut off; None for what are no instants."""
    if not pa.types.is_timestamp(column.type) or column.null_count:
        return None
    cut = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    return cut.cast(pa.int64()).to_numpy()
