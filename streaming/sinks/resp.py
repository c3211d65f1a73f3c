"""Feature rows as Redis commands, ready to send: one HSET a customer, column by column."""

from __future__ import annotations

from itertools import repeat

import numpy as np
import pyarrow as pa

from feature_repo.contracts.features import STREAM_VIEWS, Dtype
from feature_repo.contracts.settings import PROJECT
from feature_repo.stores.redis_layout import (
    ENCODERS,
    NULL_VALUE,
    encode_int64,
    encode_timestamp,
    entity_key_encoder,
    field_name,
    timestamp_field,
)

JOIN_KEY = "customer_id"


def bulk(raw: bytes) -> bytes:
    """A bulk string of the Redis protocol.

    >>> bulk(b"HSET")
    b'$4\\r\\nHSET\\r\\n'
    """
    return b"$%d\r\n%b\r\n" % (len(raw), raw)


_NULL = bulk(NULL_VALUE)
# Most numbers of a row are small counts: they come ready-made from this table.
_SMALL = tuple(bulk(encode_int64(value)) for value in range(4096))


class HsetEncoder:
    """Encodes feature rows (`ROW_SCHEMA`) as HSET commands in Feast's Redis layout."""

    def __init__(self, project: str = PROJECT) -> None:
        self._key = entity_key_encoder(JOIN_KEY, project)
        self._fields = [
            (feature.name, feature.dtype, bulk(field_name(view, feature.name)))
            for view, features in STREAM_VIEWS.items()
            for feature in features
        ]
        self._timestamps = [bulk(timestamp_field(view)) for view in STREAM_VIEWS]
        arguments = 2 + 2 * (len(self._fields) + len(self._timestamps))
        self._head = b"*%d\r\n" % arguments + bulk(b"HSET")

    def commands(self, rows: pa.RecordBatch) -> list[bytes]:
        """One command a row: shape (n,) rows -> n byte strings."""
        parts = [
            repeat(self._head),
            [bulk(self._key(customer)) for customer in rows.column(JOIN_KEY).to_pylist()],
        ]
        for name, dtype, field in self._fields:
            parts += [repeat(field), _values(rows.column(name), dtype)]
        times = rows.column("event_timestamp").cast(pa.int64()).to_pylist()
        stamps = [bulk(encode_timestamp(instant)) for instant in times]
        for field in self._timestamps:
            parts += [repeat(field), stamps]
        # repeat() never ends: the key column, a list, bounds the zip.
        return [b"".join(row) for row in zip(*parts, strict=False)]


def _values(column: pa.Array, dtype: Dtype) -> list[bytes]:
    if column.null_count == len(column):
        return [_NULL] * len(column)
    if dtype is Dtype.FLOAT64:
        return _doubles(column)
    if dtype is Dtype.INT64:
        return [
            _SMALL[value] if value is not None and 0 <= value < 4096 else bulk(encode_int64(value))
            for value in column.to_pylist()
        ]
    encode = ENCODERS[dtype]
    encoded = column.dictionary_encode()
    distinct = [bulk(encode(text)) for text in encoded.dictionary.to_pylist()]
    return [_NULL if code is None else distinct[code] for code in encoded.indices.to_pylist()]


_DOUBLE = np.dtype([("head", "S5"), ("value", "<f8"), ("end", "S2")])


def _doubles(column: pa.Array) -> list[bytes]:
    """Doubles all at once: a Value of a double always has 9 bytes."""
    whole = np.empty(len(column), _DOUBLE)
    whole["head"] = b"$9\r\n\x29"
    whole["value"] = column.fill_null(0.0).to_numpy()
    whole["end"] = b"\r\n"
    raw, size = whole.tobytes(), _DOUBLE.itemsize
    values = [raw[at : at + size] for at in range(0, len(raw), size)]
    if column.null_count:
        for row in np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist():
            values[row] = _NULL
    return values
