"""Columns of encoded values as Python's, the same that Feast's `OnlineResponse` gives.

The common types are decoded a column at a time: many encoded values of a type are, their tags cut
off, one encoded list of it, which protobuf decodes in one call. Everything else, and columns of
mixed types, goes through Feast's own conversion.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

from feast.protos.feast.types import Value_pb2 as protos
from feast.type_map import feast_value_type_to_python_type
from feast.value_type import ValueType

from feature_repo.stores.redis_layout import decode_value

# A column as short as this is decoded value by value.
_FEW = 6

# First byte of an encoded value -> the list that many of them make, and its own first byte.
_PACKED: dict[int, tuple[Any, Callable[[Sequence[bytes]], bytes]]] = {}


def _packed(values: Sequence[bytes]) -> bytes:
    """The numbers of a packed list: field 1, length-delimited."""
    content = b"".join([value[1:] for value in values])
    return b"\x0a" + _varint(len(content)) + content


def _repeated(values: Sequence[bytes]) -> bytes:
    """A list of texts: field 1 once a text."""
    return b"".join([b"\x0a" + value[1:] for value in values])


_PACKED[0x0A] = protos.BytesList, _repeated
_PACKED[0x12] = protos.StringList, _repeated
_PACKED[0x18] = protos.Int32List, _packed
_PACKED[0x20] = protos.Int64List, _packed
_PACKED[0x29] = protos.DoubleList, _packed
_PACKED[0x35] = protos.FloatList, _packed
_PACKED[0x38] = protos.BoolList, _packed

# What a declared type makes Feast do with a stored text or number: nothing.
_PLAIN = {
    None,
    ValueType.BYTES,
    ValueType.STRING,
    ValueType.INT32,
    ValueType.INT64,
    ValueType.DOUBLE,
    ValueType.FLOAT,
    ValueType.BOOL,
}
# First two bytes of an encoded list of reals -> size and format of each.
_REALS = {b"\x7a": (8, "d"), b"\x82\x01": (4, "f")}
_REAL_LISTS = {ValueType.DOUBLE_LIST, ValueType.FLOAT_LIST}


def python_values(values: Sequence[bytes], declared: Any) -> list[Any]:
    """A column's values; None where nothing is encoded.

    Args:
        declared: Feast's value type of the feature, None where it has none.
    """
    if declared in _REAL_LISTS:
        return [_reals(raw, declared) for raw in values]
    if declared not in _PLAIN:
        return [_by_feast(raw, declared) for raw in values]
    if len(values) <= _FEW:
        return [_scalar(raw, declared) for raw in values]
    present = values if all(values) else [raw for raw in values if raw]
    if not present:
        return [None] * len(values)
    decoder = _PACKED.get(present[0][0])
    if decoder is None or len({raw[0] for raw in present}) > 1:
        return [_by_feast(raw, declared) for raw in values]
    message = decoder[0]()
    message.ParseFromString(decoder[1](present))
    decoded = list(message.val)
    if len(decoded) != len(present):  # bytes of another kind behind a tag that looked right
        return [_by_feast(raw, declared) for raw in values]
    if len(present) == len(values):
        return decoded
    left = iter(decoded)
    return [next(left) if raw else None for raw in values]


def _scalar(raw: bytes, declared: Any) -> Any:
    if not raw:
        return None
    if raw[0] in _PACKED:
        return decode_value(raw)
    return _by_feast(raw, declared)


def _reals(raw: bytes, declared: Any) -> Any:
    """A list of reals: its tag and length, then field 1 (tag and length), then the numbers."""
    width = 1 if raw[:1] == b"\x7a" else 2
    known = _REALS.get(raw[:width])
    if known is not None:
        size, kind = known
        start = _after_varint(raw, width)
        if raw[start : start + 1] == b"\x0a":
            begin = _after_varint(raw, start + 1)
            count, rest = divmod(len(raw) - begin, size)
            # The inner length reaches to the end: nothing else is in it.
            if not rest and raw[start + 1 : begin] == _varint(len(raw) - begin):
                return list(struct.unpack_from(f"<{count}{kind}", raw, begin))
    return _by_feast(raw, declared)


def _by_feast(raw: bytes, declared: Any) -> Any:
    value = protos.Value()
    value.ParseFromString(raw)
    return feast_value_type_to_python_type(value, declared)


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
