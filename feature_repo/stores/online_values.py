"""Columns of encoded values as Python's, the same that Feast's `OnlineResponse` gives.

A stored value is a `Value` protobuf, of which one field is set. Many of them behind one another are
one message whose fields repeat, which protobuf decodes in a single call. Everything but plain
scalars and lists of reals, and columns of mixed types, goes through Feast's own conversion.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import feast_value_type_to_python_type
from feast.value_type import ValueType
from google.protobuf import (  # type: ignore[import-untyped]
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)

from feature_repo.stores.redis_layout import decode_value

# A column as short as this is decoded value by value.
_FEW = 6

# First byte of an encoded value -> its field in `Value`, which a `_Column` has too, repeated.
_SCALARS = {
    0x0A: "bytes_val",
    0x12: "string_val",
    0x18: "int32_val",
    0x20: "int64_val",
    0x29: "double_val",
    0x35: "float_val",
    0x38: "bool_val",
}
# What a declared type makes Feast do with a stored scalar: nothing. A tuple, the usual ones first:
# the members of an enumeration are found by identity, while hashing one costs as much as a value.
_PLAIN = (
    ValueType.DOUBLE,
    ValueType.INT64,
    ValueType.STRING,
    ValueType.FLOAT,
    ValueType.BOOL,
    ValueType.INT32,
    ValueType.BYTES,
    None,
)
# First byte of an encoded list of reals -> the bytes of its tag, and its numbers.
_REALS: dict[int, tuple[bytes, Any]] = {
    0x7A: (b"\x7a", np.dtype("<f8")),
    0x82: (b"\x82\x01", np.dtype("<f4")),
}
_REAL_LISTS = (ValueType.FLOAT_LIST, ValueType.DOUBLE_LIST)


def _column_type() -> Any:
    """A message with `Value`'s scalar fields, under their numbers, repeated."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="feature_repo/column.proto", package="feature_repo", syntax="proto3"
    )
    message = file.message_type.add(name="Column")
    for name in _SCALARS.values():
        original = Value.DESCRIPTOR.fields_by_name[name]
        message.field.add(
            name=name, number=original.number, type=original.type, label=field.LABEL_REPEATED
        )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("feature_repo.Column"))


_Column = _column_type()
_first_byte = itemgetter(0)


def python_values(values: Sequence[bytes], declared: Any) -> list[Any]:
    """A column's values; None where nothing is encoded.

    Args:
        declared: Feast's value type of the feature, None where it has none.
    """
    if declared not in _PLAIN:
        found = _reals(values) if declared in _REAL_LISTS else None
        return found or [_by_feast(raw, declared) for raw in values]
    if len(values) <= _FEW:
        return [_scalar(raw, declared) for raw in values]
    present = values if all(values) else [raw for raw in values if raw]
    if not present:
        return [None] * len(values)
    firsts = bytes(map(_first_byte, present))
    name = _SCALARS.get(firsts[0])
    if name is None or firsts.count(firsts[0]) != len(firsts):
        return [_by_feast(raw, declared) for raw in values]
    decoded = list(getattr(_Column.FromString(b"".join(present)), name))
    if len(present) == len(values):
        return decoded
    left = iter(decoded)
    return [next(left) if raw else None for raw in values]


def _scalar(raw: bytes, declared: Any) -> Any:
    if not raw:
        return None
    return decode_value(raw) if raw[0] in _SCALARS else _by_feast(raw, declared)


def _reals(values: Sequence[bytes]) -> list[Any] | None:
    """Lists of reals of one length, without nulls; None for others.

    Each is its tag and length, then field 1 (tag and length), then the numbers.
    """
    first = values[0] if values else b""
    known = _REALS.get(first[0]) if first else None
    if known is None:
        return None
    tag, kind = known
    begin = _after_varint(first, _after_varint(first, len(tag)) + 1)
    if begin > len(first):  # an empty list has no field within
        return None
    count, rest = divmod(len(first) - begin, kind.itemsize)
    content = begin - len(tag) - 1
    head = first[:begin]
    # An inner length of all that follows: nothing else is in the message.
    inner = b"\x0a" + _varint(len(first) - begin)
    if rest or content < len(inner) or not head.startswith(tag) or not head.endswith(inner):
        return None
    size = len(first)
    for raw in values:
        if len(raw) != size or not raw.startswith(head):
            return None
    if len(values) == 1:
        return [list(struct.unpack_from(f"<{count}{kind.char}", first, begin))]
    rows = np.frombuffer(b"".join(values), np.uint8).reshape(len(values), size)
    return list(np.ascontiguousarray(rows[:, begin:]).view(kind).tolist())


def _by_feast(raw: bytes, declared: Any) -> Any:
    return feast_value_type_to_python_type(Value.FromString(raw), declared)


def _after_varint(raw: bytes, at: int) -> int:
    end = len(raw)
    while at < end and raw[at] > 0x7F:
        at += 1
    return at + 1


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
