"""A table's rows as calls of the ordered write, packed by a compiled kernel: no object a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numba
import numpy as np
import numpy.typing as npt

from feature_repo.stores.column_encoding import Encoded
from feature_repo.stores.fenced_writes import FENCED_WRITE_SHA
from feature_repo.stores.redis_layout import created_field, field_name, timestamp_field

# Rows packed at once: while the store takes in one piece, the next is made.
CHUNK_ROWS = 1_024
# Beside the values: lengths of bulk strings, and of arrays.
_VALUE_OVERHEAD = 16


def bulk(raw: bytes) -> bytes:
    """A bulk string of the Redis protocol.

    >>> bulk(b"HSET")
    b'$4\\r\\nHSET\\r\\n'
    """
    return b"$%d\r\n%b\r\n" % (len(raw), raw)


class TablePacker:
    """Packs n rows of one view.

    Args:
        view: the name under which its features are stored.
        features: their names.
        keys: names of hashes, n of them.
        columns: event times, created times (empty where there are none), then each feature.
        rows_per_call: rows of one call of the script.
        shared: event time and created time of all rows, instead of their columns.
    """

    def __init__(
        self,
        view: str,
        features: Sequence[str],
        keys: Encoded,
        columns: Sequence[Encoded],
        rows_per_call: int,
        *,
        shared: tuple[bytes, bytes] | None = None,
    ) -> None:
        self._keys = keys
        self._group = rows_per_call
        self._head = _constant(bulk(b"EVALSHA") + bulk(FENCED_WRITE_SHA.encode()))
        fields = [timestamp_field(view), created_field(view), b"%d" % len(features)]
        fields += [b"1" if shared else b"0", *(field_name(view, name) for name in features)]
        fields += shared or ()
        self._fields = _constant(b"".join(map(bulk, fields)))
        self._field_count = len(fields)
        starts = np.cumsum([0, *(len(column.data) for column in columns)])
        self._data = np.concatenate([column.data for column in columns])
        self._offsets = np.stack(
            [column.offsets + start for column, start in zip(columns, starts, strict=False)]
        )

    def pieces(self) -> Iterator[tuple[memoryview, int]]:
        """Requests to send, and how many answers to each."""
        rows, width = len(self._keys.offsets) - 1, len(self._offsets)
        for start in range(0, rows, CHUNK_ROWS):
            end = min(start + CHUNK_ROWS, rows)
            calls = -(-(end - start) // self._group)
            ends = self._offsets[:, [start, end]]
            bound = (
                int((ends[:, 1] - ends[:, 0]).sum())
                + int(self._keys.offsets[end] - self._keys.offsets[start])
                + (end - start) * (1 + width) * _VALUE_OVERHEAD
                + calls * (len(self._head) + len(self._fields) + 4 * _VALUE_OVERHEAD)
            )
            out = np.empty(bound, np.uint8)
            used = _pack(
                out,
                self._keys.offsets,
                self._keys.data,
                self._offsets,
                self._data,
                self._head,
                self._fields,
                self._field_count,
                start,
                end,
                self._group,
            )
            yield out.data[:used], calls


def _constant(raw: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(raw, np.uint8)


@numba.njit(inline="always")
def _digits(value):  # type: ignore[no-untyped-def]
    digits = 1
    while value > 9:
        value //= 10
        digits += 1
    return digits


@numba.njit(inline="always")
def _line(out, at, value):  # type: ignore[no-untyped-def]
    """A whole number in decimal digits, and the end of the line."""
    digits = _digits(value)
    for place in range(at + digits - 1, at - 1, -1):
        out[place] = 48 + value % 10
        value //= 10
    out[at + digits] = 13
    out[at + digits + 1] = 10
    return at + digits + 2


@numba.njit(inline="always")
def _put(out, at, raw, start, end):  # type: ignore[no-untyped-def]
    # Unsigned places: a signed index may count from the end, and its check costs half the speed.
    here = np.uint64(at) - np.uint64(start)
    for place in range(np.uint64(start), np.uint64(end)):
        out[here + place] = raw[place]
    return at + end - start


@numba.njit(inline="always")
def _bulk(out, at, raw, start, end):  # type: ignore[no-untyped-def]
    out[at] = 36
    at = _put(out, _line(out, at + 1, end - start), raw, start, end)
    out[at] = 13
    out[at + 1] = 10
    return at + 2


_RAW = "Array(uint8, 1, 'C', readonly=True)"


@numba.njit(
    f"int64(uint8[::1], int64[::1], {_RAW}, int64[:, ::1], uint8[::1], {_RAW}, {_RAW}, int64,"
    " int64, int64, int64)",
    cache=True,
    nogil=True,
)
def _pack(  # type: ignore[no-untyped-def]  # noqa: PLR0917
    out, key_offsets, key_data, offsets, data, head, fields, field_count, start, end, group
):
    at = 0
    width = len(offsets)
    for first in range(start, end, group):
        last = min(first + group, end)
        count = last - first
        out[at] = 42
        at = _line(out, at + 1, 3 + field_count + (1 + width) * count)
        at = _put(out, at, head, 0, len(head))
        out[at] = 36
        at = _line(out, at + 1, _digits(count))
        at = _line(out, at, count)
        for row in range(first, last):
            at = _bulk(out, at, key_data, key_offsets[row], key_offsets[row + 1])
        at = _put(out, at, fields, 0, len(fields))
        for row in range(first, last):
            for column in range(width):
                at = _bulk(out, at, data, offsets[column, row], offsets[column, row + 1])
    return at
