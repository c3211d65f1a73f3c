"""Feast's Redis layout, byte for byte, without importing Feast.

One hash per entity: key = serialised entity key (version 3) + project; field = murmur3 of
`view:feature`; value = a serialised `Value` protobuf; `_ts:view` = a serialised `Timestamp`.
Streaming writes it and serving reads it far faster than Feast's own objects do; plain Feast reads
and writes the same bytes (`tests/feature_repo/stores/` holds both sides to each other). Beside
Feast's fields stand two of ours, `_fence:view` and `_created:view`, which Feast ignores.

Source: feast 0.67, `infra/key_encoding_utils.py`, `infra/online_stores/redis.py`,
`protos/feast/types/Value.proto`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

import mmh3

from feature_repo.contracts.definition import Dtype

_STRING = 2  # ValueType.STRING
_DOUBLE = struct.Struct("<d")
_UINT32 = struct.Struct("<I")
_FENCE = struct.Struct(">QQ")
_CREATED = struct.Struct(">Q")

# Field tags of the Value protobuf: (field number << 3) | wire type.
TAG_BYTES = 0x0A
_TAG_STRING = 0x12
_TAG_INT32 = 0x18
_TAG_INT64 = 0x20
_TAG_DOUBLE = 0x29
_TAG_FLOAT = 0x35
_TAG_BOOL = 0x38

NULL_VALUE = b""  # a Value with nothing set


def entity_key_prefix(join_key: str) -> bytes:
    """The part of an entity key before its value, for one string join key."""
    name = join_key.encode()
    return b"".join(
        (
            _UINT32.pack(1),
            _UINT32.pack(_STRING),
            _UINT32.pack(len(name)),
            name,
            _UINT32.pack(_STRING),
        )
    )


def entity_key_encoder(join_key: str, project: str) -> Callable[[str], bytes]:
    """A function from a string entity value to its Redis key.

    >>> entity_key_encoder("customer_id", "daima")("c1")[-11:]
    b'\\x02\\x00\\x00\\x00c1daima'
    """
    prefix = entity_key_prefix(join_key)
    suffix = project.encode()
    pack = _UINT32.pack

    def encode(value: str) -> bytes:
        raw = value.encode()
        return prefix + pack(len(raw)) + raw + suffix

    return encode


def field_name(view: str, feature: str) -> bytes:
    """The hash field of one feature: murmur3 (32 bit, little endian) of `view:feature`."""
    return _UINT32.pack(mmh3.hash(f"{view}:{feature}", signed=False))


def timestamp_field(view: str) -> bytes:
    """The hash field of a view's event time."""
    return f"_ts:{view}".encode()


class Fence(NamedTuple):
    """Where in the history of effects a stored value comes from; later ones are greater.

    Attributes:
        generation: rises with each new set of definitions and each rebuild.
        offset: position in the log of the last event that the value holds.
    """

    generation: int
    offset: int


def created_field(view: str) -> bytes:
    """The hash field of a view's created time, with the event time that it belongs to."""
    return f"_created:{view}".encode()


def encode_created(epoch_us: int) -> bytes:
    """8 bytes, big endian: they sort as the instants (µs since 1970) do, those before it too."""
    return _CREATED.pack(epoch_us + (1 << 63))


def fence_field(view: str) -> bytes:
    """The hash field of a view's fence. Each view of an entity has its own."""
    return f"_fence:{view}".encode()


def encode_fence(fence: Fence) -> bytes:
    """16 bytes, big endian: they sort as the fences do.

    >>> encode_fence(Fence(1, 258)).hex()
    '00000000000000010000000000000102'
    """
    return _FENCE.pack(*fence)


def decode_fence(raw: bytes) -> Fence:
    """The fence in 16 bytes."""
    return Fence(*_FENCE.unpack(raw))


def _varint(value: int) -> bytes:
    if value < 0:
        value += 1 << 64
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


# Counts are small: most int64 values of a row come from this table.
_SMALL_INT64 = tuple(bytes((_TAG_INT64,)) + _varint(value) for value in range(4096))


def encode_int64(value: int | None) -> bytes:
    """A `Value` holding an int64, or nothing for None."""
    if value is None:
        return NULL_VALUE
    if 0 <= value < 4096:
        return _SMALL_INT64[value]
    return b"\x20" + _varint(value)


def encode_double(value: float | None) -> bytes:
    """A `Value` holding a double, or nothing for None.

    >>> encode_double(1.0).hex()
    '29000000000000f03f'
    """
    return NULL_VALUE if value is None else b"\x29" + _DOUBLE.pack(value)


def encode_string(value: str | None) -> bytes:
    """A `Value` holding a string, or nothing for None."""
    if value is None:
        return NULL_VALUE
    raw = value.encode()
    return b"\x12" + _varint(len(raw)) + raw


def encode_bytes(value: bytes | None) -> bytes:
    """A `Value` holding bytes, or nothing for None."""
    return NULL_VALUE if value is None else b"\x0a" + _varint(len(value)) + value


ENCODERS: dict[Dtype, Callable[[object], bytes]] = {
    Dtype.INT64: encode_int64,  # type: ignore[dict-item]
    Dtype.FLOAT64: encode_double,  # type: ignore[dict-item]
    Dtype.STRING: encode_string,  # type: ignore[dict-item]
    Dtype.BYTES: encode_bytes,  # type: ignore[dict-item]
}


def encode_timestamp(epoch_us: int) -> bytes:
    """A `Timestamp` protobuf of an instant in µs since 1970 (not before)."""
    seconds, us = divmod(epoch_us, 1_000_000)
    out = b"\x08" + _varint(seconds) if seconds else b""
    return out + (b"\x10" + _varint(us * 1000) if us else b"")


def _read_varint(raw: bytes, at: int) -> tuple[int, int]:
    shift = result = 0
    while True:
        byte = raw[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7


def decode_timestamp(raw: bytes) -> int:
    """µs since 1970 of a `Timestamp` protobuf."""
    seconds = nanos = at = 0
    while at < len(raw):
        tag = raw[at]
        value, at = _read_varint(raw, at + 1)
        if tag == 0x08:
            seconds = value
        else:
            nanos = value
    return seconds * 1_000_000 + nanos // 1000


def decode_value(raw: bytes) -> int | float | str | bool | bytes | None:
    """The scalar in a `Value` protobuf; None where nothing is set.

    Raises:
        ValueError: the value is of a kind that no stored feature here has (arrays, maps).
    """
    if not raw:
        return None
    tag = raw[0]
    if tag == _TAG_DOUBLE:
        return float(_DOUBLE.unpack_from(raw, 1)[0])
    if tag in (_TAG_INT64, _TAG_INT32):
        value = _read_varint(raw, 1)[0]
        return value - (1 << 64) if value >> 63 else value
    if tag in (_TAG_STRING, TAG_BYTES):
        length, at = _read_varint(raw, 1)
        content = raw[at : at + length]
        return content if tag == TAG_BYTES else content.decode()
    if tag == _TAG_FLOAT:
        return float(struct.unpack_from("<f", raw, 1)[0])
    if tag == _TAG_BOOL:
        return bool(raw[1])
    raise ValueError(f"Value tag is {tag:#x}: expected a scalar (int, float, string, bool, bytes)")


# Tags of the lists of numbers -> bytes a number takes and how struct calls it; 0: a varint.
_LISTS = {0x6A: (0, ""), 0x72: (0, ""), 0x7A: (8, "d"), 0x82: (4, "f")}


def decode_array(raw: bytes) -> list[float] | None:
    """The numbers in a `Value` protobuf that holds an array of them; None where nothing is set.

    Raises:
        ValueError: the value is no array of int32, int64, float or double.

    >>> decode_array(bytes.fromhex("72040a028001"))
    [128.0]
    """
    if not raw:
        return None
    tag, at = _read_varint(raw, 0)
    if tag not in _LISTS:
        raise ValueError(f"Value tag is {tag:#x}: expected an array of numbers")
    width, code = _LISTS[tag]
    length, at = _read_varint(raw, at)
    if length == 0:
        return []
    if raw[at] != 0x0A:
        raise ValueError("an array of numbers is packed")
    size, at = _read_varint(raw, at + 1)
    end = at + size
    if end != len(raw) or (width and size % width):
        raise ValueError("an array is cut")
    if width:
        return list(struct.unpack_from(f"<{size // width}{code}", raw, at))
    numbers = []
    while at < end:
        number, at = _read_varint(raw, at)
        numbers.append(float(number - (1 << 64) if number >> 63 else number))
    return numbers
