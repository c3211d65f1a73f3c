"""Arrow columns as encoded `Value` protobufs, a column at a time, by compiled kernels.

Feast makes a protobuf of each value: some 10 µs a value until it is on its way. Here a column's
values lie behind one another in one buffer, as Feast's would be serialised; types without a kernel
are made by Feast and serialised into the same form.

Source: feast 0.67, `protos/feast/types/Value.proto`; `type_map.python_values_to_proto_values`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType

import feature_repo.engine  # noqa: F401  # says where compiled kernels are kept

_Bytes = npt.NDArray[np.uint8]
_Int64s = npt.NDArray[np.int64]
_READ_ONLY = "Array({}, 1, 'C', readonly=True)"


class Encoded(NamedTuple):
    """n byte strings: value i is `data[offsets[i]:offsets[i + 1]]`; offsets (n + 1,)."""

    offsets: _Int64s
    data: _Bytes

    @classmethod
    def of(cls, values: list[bytes]) -> Encoded:
        """Byte strings as they are."""
        ends = np.cumsum([0, *map(len, values)], dtype=np.int64)
        return cls(ends, np.frombuffer(b"".join(values), np.uint8))


_FIXED = {
    ValueType.DOUBLE: (0x29, pa.float64()),
    ValueType.FLOAT: (0x35, pa.float32()),
    ValueType.BOOL: (0x38, pa.uint8()),
}
_WHOLE = {ValueType.INT32: (0x18, pa.int32()), ValueType.INT64: (0x20, pa.int64())}
_TEXTS = {ValueType.STRING: (0x12, pa.large_string()), ValueType.BYTES: (0x0A, pa.large_binary())}
_REALS = {
    ValueType.DOUBLE_LIST: (b"\x7a", pa.float64()),
    ValueType.FLOAT_LIST: (b"\x82\x01", pa.float32()),
}


def encode_column(column: pa.ChunkedArray, declared: ValueType) -> Encoded:
    """A column's values as a feature of the declared type; nulls (and NaN) are empty.

    Raises:
        TypeError, ValueError, AssertionError: values do not fit the type (Feast's own checks).
    """
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    kind = array.type
    number = pa.types.is_floating(kind) or pa.types.is_integer(kind)
    if declared in _FIXED and (pa.types.is_boolean(kind) if declared is ValueType.BOOL else number):
        tag, wanted = _FIXED[declared]
        return _fixed(array.cast(wanted, safe=False), tag)
    if declared in _WHOLE and pa.types.is_integer(kind):
        tag, wanted = _WHOLE[declared]
        whole = array.cast(wanted)  # what does not fit is refused
        values = whole.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        return Encoded(*_varints(values, _valid(whole), tag))
    if declared in _TEXTS and kind in _SAME[declared]:
        tag, wanted = _TEXTS[declared]
        offsets, data = _var_buffers(array.cast(wanted))
        return Encoded(*_texts(offsets, data, _valid(array), tag))
    if declared in _REALS and pa.types.is_list(kind) and pa.types.is_floating(kind.value_type):
        head, item = _REALS[declared]
        numbers = array.flatten()
        if not numbers.null_count:
            counts = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
            raw = np.frombuffer(
                np.ascontiguousarray(numbers.cast(item, safe=False).to_numpy()), np.uint8
            )
            ends = np.cumsum(np.concatenate(([0], counts)), dtype=np.int64) * item.bit_width // 8
            return Encoded(*_packed(ends, raw, _valid(array), np.frombuffer(head, np.uint8)))
    protos = python_values_to_proto_values(array.to_numpy(zero_copy_only=False), declared)
    return Encoded.of([proto.SerializeToString() for proto in protos])


_SAME = {
    ValueType.STRING: (pa.string(), pa.large_string()),
    ValueType.BYTES: (pa.binary(), pa.large_binary()),
}


def encode_timestamps(epoch_us: _Int64s) -> Encoded:
    """`Timestamp` protobufs of instants in µs since 1970."""
    return Encoded(*_timestamps(np.ascontiguousarray(epoch_us, np.int64)))


def _fixed(array: Any, tag: int) -> Encoded:
    values = array.fill_null(0).to_numpy(zero_copy_only=False)
    valid = _valid(array)
    if values.dtype.kind == "f":
        valid &= ~np.isnan(values)  # null to Feast
    rows = np.empty((len(values), 1 + values.itemsize), np.uint8)
    rows[:, 0] = tag
    rows[:, 1:] = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), values.itemsize)
    ends = np.zeros(len(values) + 1, np.int64)
    np.cumsum(valid * np.int64(rows.shape[1]), out=ends[1:])
    return Encoded(ends, rows.reshape(-1) if valid.all() else rows[valid].reshape(-1))


def _valid(array: Any) -> npt.NDArray[np.bool_]:
    if not array.null_count:
        return np.ones(len(array), np.bool_)
    return np.array(array.is_valid().to_numpy(zero_copy_only=False), np.bool_)


def _var_buffers(array: Any) -> tuple[_Int64s, _Bytes]:
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, np.int64, len(array) + 1, array.offset * 8)
    return ends, np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)


@numba.njit(inline="always")
def _put_varint(out, at, value):  # type: ignore[no-untyped-def]
    while value > np.uint64(0x7F):
        out[at] = np.uint8(value & np.uint64(0x7F)) | np.uint8(0x80)
        value >>= np.uint64(7)
        at += 1
    out[at] = np.uint8(value)
    return at + 1


@numba.njit(inline="always")
def _varint_size(value):  # type: ignore[no-untyped-def]
    size = 1
    while value > np.uint64(0x7F):
        value >>= np.uint64(7)
        size += 1
    return size


@numba.njit("Tuple((int64[::1], uint8[::1]))(int64[::1], boolean[::1], int64)", cache=True)
def _varints(values, valid, tag):  # type: ignore[no-untyped-def]
    out = np.empty(11 * len(values), np.uint8)
    ends = np.zeros(len(values) + 1, np.int64)
    at = 0
    for row in range(len(values)):
        if valid[row]:
            out[at] = tag
            at = _put_varint(out, at + 1, np.uint64(values[row]))
        ends[row + 1] = at
    return ends, out[:at]


@numba.njit(
    f"Tuple((int64[::1], uint8[::1]))({_READ_ONLY.format('int64')}, {_READ_ONLY.format('uint8')},"
    " boolean[::1], int64)",
    cache=True,
)
def _texts(offsets, data, valid, tag):  # type: ignore[no-untyped-def]
    count = len(valid)
    out = np.empty(offsets[count] - offsets[0] + 11 * count, np.uint8)
    ends = np.zeros(count + 1, np.int64)
    at = 0
    for row in range(count):
        if valid[row]:
            start, end = offsets[row], offsets[row + 1]
            out[at] = tag
            at = _put_varint(out, at + 1, np.uint64(end - start))
            out[at : at + end - start] = data[start:end]
            at += end - start
        ends[row + 1] = at
    return ends, out[:at]


@numba.njit(
    f"Tuple((int64[::1], uint8[::1]))(int64[::1], {_READ_ONLY.format('uint8')}, boolean[::1],"
    f" {_READ_ONLY.format('uint8')})",
    cache=True,
)
def _packed(offsets, data, valid, head):  # type: ignore[no-untyped-def]
    count = len(valid)
    out = np.empty(offsets[count] + 24 * count, np.uint8)
    ends = np.zeros(count + 1, np.int64)
    at = 0
    for row in range(count):
        if valid[row]:
            start, end = offsets[row], offsets[row + 1]
            size = np.uint64(end - start)
            out[at : at + len(head)] = head
            at += len(head)
            if end == start:  # an empty list is a message without fields
                out[at] = 0
                at += 1
            else:
                inner = np.uint64(1 + _varint_size(size)) + size
                at = _put_varint(out, at, inner)
                out[at] = 0x0A
                at = _put_varint(out, at + 1, size)
                out[at : at + end - start] = data[start:end]
                at += end - start
        ends[row + 1] = at
    return ends, out[:at]


@numba.njit(f"Tuple((int64[::1], uint8[::1]))({_READ_ONLY.format('int64')})", cache=True)
def _timestamps(times_us):  # type: ignore[no-untyped-def]
    out = np.empty(24 * len(times_us), np.uint8)
    ends = np.zeros(len(times_us) + 1, np.int64)
    at = 0
    for row in range(len(times_us)):
        seconds = times_us[row] // 1_000_000
        nanos = (times_us[row] - seconds * 1_000_000) * 1_000
        if seconds != 0:
            out[at] = 0x08
            at = _put_varint(out, at + 1, np.uint64(seconds))
        if nanos != 0:
            out[at] = 0x10
            at = _put_varint(out, at + 1, np.uint64(nanos))
        ends[row + 1] = at
    return ends, out[:at]
