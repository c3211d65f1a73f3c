"""Thrift's compact protocol, as much of it as the metadata of Parquet files needs."""

from __future__ import annotations

from collections.abc import Sequence

_TRUE, _I16, _I32, _I64, _BINARY, _LIST, _STRUCT = 1, 4, 5, 6, 8, 9, 12
_SHORT_LIST = 15


def varint(number: int) -> bytes:
    """A number of at least 0, seven bits a byte, the lowest first.

    >>> varint(300).hex()
    'ac02'
    """
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _zigzag(number: int) -> bytes:
    return varint(number << 1 if number >= 0 else ~number << 1 | 1)


class Struct:
    """A struct, written field by field in the order of their numbers.

    >>> Struct().i32(1, 0).text(4, "a").done().hex()
    '150038016100'
    """

    def __init__(self) -> None:
        self._out = bytearray()
        self._last = 0

    def i16(self, field: int, number: int) -> Struct:
        """A field of two bytes."""
        return self._put(field, _I16, _zigzag(number))

    def i32(self, field: int, number: int) -> Struct:
        """A field of four bytes, or of an enumeration."""
        return self._put(field, _I32, _zigzag(number))

    def i64(self, field: int, number: int) -> Struct:
        """A field of eight bytes."""
        return self._put(field, _I64, _zigzag(number))

    def true(self, field: int) -> Struct:
        """A flag that is set."""
        return self._put(field, _TRUE, b"")

    def text(self, field: int, text: str | bytes) -> Struct:
        """A text or bytes."""
        return self._put(field, _BINARY, _binary(text))

    def struct(self, field: int, value: Struct) -> Struct:
        """A struct in this one."""
        return self._put(field, _STRUCT, value.done())

    def i32s(self, field: int, numbers: Sequence[int]) -> Struct:
        """A list of numbers."""
        return self._list(field, _I32, [_zigzag(number) for number in numbers])

    def texts(self, field: int, texts: Sequence[str]) -> Struct:
        """A list of texts."""
        return self._list(field, _BINARY, [_binary(text) for text in texts])

    def structs(self, field: int, values: Sequence[Struct]) -> Struct:
        """A list of structs."""
        return self._list(field, _STRUCT, [value.done() for value in values])

    def done(self) -> bytes:
        """The struct's bytes."""
        return bytes(self._out) + b"\0"

    def _list(self, field: int, kind: int, items: Sequence[bytes]) -> Struct:
        if len(items) < _SHORT_LIST:
            head = bytes([len(items) << 4 | kind])
        else:
            head = bytes([_SHORT_LIST << 4 | kind]) + varint(len(items))
        return self._put(field, _LIST, head + b"".join(items))

    def _put(self, field: int, kind: int, value: bytes) -> Struct:
        # All numbers of fields here are less than 16 apart: the short form does.
        self._out.append((field - self._last) << 4 | kind)
        self._out += value
        self._last = field
        return self


def _binary(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return varint(len(raw)) + raw
