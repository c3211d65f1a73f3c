"""States as commands of the Redis protocol, packed by a compiled kernel: no object a row.

One call of the fenced-write script a group of keys. The layout of keys, values and timestamps is
Feast's (`feature_repo.stores.redis_layout`, which the tests hold this to); the kernel writes it
straight from Arrow's buffers and without the interpreter's lock: 0.13 µs for a state of 700 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

import feature_repo.engine  # noqa: F401  # says where compiled kernels are kept
from feature_repo.contracts.feature_set import EntityKey
from feature_repo.contracts.states import state_feature, state_view
from feature_repo.stores.fenced_writes import FENCED_WRITE_SHA
from feature_repo.stores.redis_layout import (
    TAG_BYTES,
    entity_key_prefix,
    fence_field,
    field_name,
    timestamp_field,
)

_Bytes = npt.NDArray[np.uint8]
_Int64s = npt.NDArray[np.int64]

# Beside key, state and the entity's constants: lengths, fence, timestamp and array heads.
_ROW_OVERHEAD = 128
_CALL_OVERHEAD = 64


@dataclass(frozen=True)
class Rows:
    """States to write for keys of one entity.

    Attributes:
        keys, states: texts and bytes, shape (n,).
        times_us: event time of each, µs since 1970.
        generations, offsets: the fence of each.
    """

    keys: pa.StringArray
    states: pa.BinaryArray
    times_us: _Int64s
    generations: _Int64s
    offsets: _Int64s

    def __len__(self) -> int:
        return len(self.keys)

    def slice(self, start: int, count: int) -> Rows:
        """`count` rows from `start` on, without a copy."""
        end = start + count
        return Rows(
            self.keys.slice(start, count),
            self.states.slice(start, count),
            self.times_us[start:end],
            self.generations[start:end],
            self.offsets[start:end],
        )

    def take(self, places: _Int64s) -> Rows:
        """The rows at these places."""
        return Rows(
            self.keys.take(pa.array(places)),
            self.states.take(pa.array(places)),
            self.times_us[places],
            self.generations[places],
            self.offsets[places],
        )


def bulk(raw: bytes) -> bytes:
    """A bulk string of the Redis protocol.

    >>> bulk(b"HSET")
    b'$4\\r\\nHSET\\r\\n'
    """
    return b"$%d\r\n%b\r\n" % (len(raw), raw)


class CallPacker:
    """Packs rows of one entity as calls of the fenced-write script.

    Args:
        entity: whose states they are.
        project: the Feast project, part of every key.
        group: keys a call.
    """

    def __init__(self, entity: EntityKey, project: str, group: int) -> None:
        view = state_view(entity.name)
        self.group = group
        self._head = _constant(bulk(b"EVALSHA") + bulk(FENCED_WRITE_SHA.encode()))
        self._fields = _constant(
            bulk(fence_field(view))
            + bulk(field_name(view, state_feature(entity.name)))
            + bulk(timestamp_field(view))
        )
        self._prefix = _constant(entity_key_prefix(entity.join_key))
        self._suffix = _constant(project.encode())
        self._out = np.empty(0, np.uint8)

    def pack(self, rows: Rows) -> memoryview:
        """The calls for all rows, `group` rows each, in order; valid until the next `pack`."""
        key_offsets, key_data = _buffers(rows.keys)
        state_offsets, state_data = _buffers(rows.states)
        count = len(rows)
        bound = (
            int(key_offsets[count] - key_offsets[0] + state_offsets[count] - state_offsets[0])
            + count * (_ROW_OVERHEAD + len(self._prefix) + len(self._suffix))
            + -(-count // self.group) * (_CALL_OVERHEAD + len(self._head) + len(self._fields))
        )
        if len(self._out) < bound:
            self._out = np.empty(bound, np.uint8)
        used = _pack(
            self._out,
            key_offsets,
            key_data,
            state_offsets,
            state_data,
            np.ascontiguousarray(rows.times_us),
            np.ascontiguousarray(rows.generations),
            np.ascontiguousarray(rows.offsets),
            self._head,
            self._fields,
            self._prefix,
            self._suffix,
            self.group,
        )
        return self._out.data[:used]


def _constant(raw: bytes) -> _Bytes:
    return np.frombuffer(raw, np.uint8).copy()  # writable, as the kernel's signature has it


def _buffers(column: pa.StringArray | pa.BinaryArray) -> tuple[npt.NDArray[np.int32], _Bytes]:
    """Offsets (n + 1,) and bytes of a column without nulls."""
    _, offsets, data = column.buffers()
    if not len(column):
        return np.zeros(1, np.int32), np.empty(0, np.uint8)
    ends = np.frombuffer(offsets, np.int32, len(column) + 1, column.offset * 4)
    return ends, np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)


@numba.njit(inline="always")
def _copy(out, at, raw, start, end):  # type: ignore[no-untyped-def]
    # Unsigned places: a signed index may count from the end, and its check costs half the speed.
    here = np.uint64(at) - np.uint64(start)
    for place in range(np.uint64(start), np.uint64(end)):
        out[here + place] = raw[place]
    return at + end - start


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
def _number(out, at, mark, value):  # type: ignore[no-untyped-def]
    """The head of an array (mark `*`) or of a bulk string (`$`)."""
    out[at] = mark
    return _line(out, at + 1, value)


@numba.njit(inline="always")
def _varint(out, at, value):  # type: ignore[no-untyped-def]
    while value > 0x7F:
        out[at] = value & 0x7F | 0x80
        value >>= 7
        at += 1
    out[at] = value
    return at + 1


@numba.njit(inline="always")
def _varint_size(value):  # type: ignore[no-untyped-def]
    size = 1
    while value > 0x7F:
        value >>= 7
        size += 1
    return size


@numba.njit(inline="always")
def _end(out, at):  # type: ignore[no-untyped-def]
    out[at] = 13
    out[at + 1] = 10
    return at + 2


@numba.njit(
    "int64(uint8[::1], Array(int32, 1, 'C', readonly=True), Array(uint8, 1, 'C', readonly=True),"
    " Array(int32, 1, 'C', readonly=True), Array(uint8, 1, 'C', readonly=True),"
    " int64[::1], int64[::1], int64[::1],"
    " uint8[::1], uint8[::1], uint8[::1], uint8[::1], int64)",
    cache=True,
    nogil=True,
)
def _pack(  # type: ignore[no-untyped-def]  # noqa: PLR0917
    out,
    key_offsets,
    key_data,
    state_offsets,
    state_data,
    times_us,
    generations,
    offsets,
    head,
    fields,
    prefix,
    suffix,
    group,
):
    rows = len(times_us)
    at = 0
    for first in range(0, rows, group):
        last = min(first + group, rows)
        count = last - first
        at = _number(out, at, 42, 6 + 4 * count)
        at = _copy(out, at, head, 0, len(head))
        at = _number(out, at, 36, _digits(count))
        at = _line(out, at, count)
        for row in range(first, last):
            start, end = key_offsets[row], key_offsets[row + 1]
            length = end - start
            at = _number(out, at, 36, len(prefix) + 4 + length + len(suffix))
            at = _copy(out, at, prefix, 0, len(prefix))
            for byte in range(4):
                out[at + byte] = (length >> (8 * byte)) & 0xFF
            at = _copy(out, at + 4, key_data, start, end)
            at = _end(out, _copy(out, at, suffix, 0, len(suffix)))
        at = _copy(out, at, fields, 0, len(fields))
        for row in range(first, last):
            at = _number(out, at, 36, 16)
            for byte in range(8):
                out[at + byte] = (generations[row] >> (56 - 8 * byte)) & 0xFF
                out[at + 8 + byte] = (offsets[row] >> (56 - 8 * byte)) & 0xFF
            at = _end(out, at + 16)
            start, end = state_offsets[row], state_offsets[row + 1]
            length = end - start
            at = _number(out, at, 36, 1 + _varint_size(length) + length)
            out[at] = TAG_BYTES
            at = _varint(out, at + 1, length)
            at = _end(out, _copy(out, at, state_data, start, end))
            seconds = times_us[row] // 1_000_000
            nanos = (times_us[row] - seconds * 1_000_000) * 1_000
            size = 0
            if seconds:
                size += 1 + _varint_size(seconds)
            if nanos:
                size += 1 + _varint_size(nanos)
            at = _number(out, at, 36, size)
            if seconds:
                out[at] = 0x08
                at = _varint(out, at + 1, seconds)
            if nanos:
                out[at] = 0x10
                at = _varint(out, at + 1, nanos)
            at = _end(out, at)
    return at
