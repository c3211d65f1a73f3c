"""Numbers and texts packed as Parquet's encodings have them, by compiled kernels.

Arrow's writer takes 5 ns for an integer packed by differences and 10 for one that may be null;
these take about 1: with sixty columns that is the difference between writing rows and computing
them.
"""

from __future__ import annotations

import numba
import numpy as np

import feature_repo.engine  # noqa: F401  # says where compiled kernels are kept

U = np.uint64
BLOCK = 128  # integers whose differences share a least one
_MINI = 32  # of those, how many share a width; so many are packed at a time
_WIDE = 8
_WORDS = "Array(int64, 1, 'C', readonly=True)"
_BYTES = "Array(uint8, 1, 'C', readonly=True)"

# Places are unsigned: a signed index may count from the end, and its check costs half the speed.


@numba.njit(inline="always")
def _varint(out, at, number):  # type: ignore[no-untyped-def]
    while number > U(0x7F):
        out[at] = np.uint8(number & U(0x7F)) | np.uint8(0x80)
        number >>= U(7)
        at += U(1)
    out[at] = np.uint8(number)
    return at + U(1)


@numba.njit(inline="always")
def _zigzag(number):  # type: ignore[no-untyped-def]
    return U((number << 1) ^ (number >> 63))


@numba.njit(inline="always")
def _word(out, at, word):  # type: ignore[no-untyped-def]
    """Eight bytes, the lowest first; written out, which becomes a single store."""
    out[at] = np.uint8(word)
    out[at + U(1)] = np.uint8(word >> U(8))
    out[at + U(2)] = np.uint8(word >> U(16))
    out[at + U(3)] = np.uint8(word >> U(24))
    out[at + U(4)] = np.uint8(word >> U(32))
    out[at + U(5)] = np.uint8(word >> U(40))
    out[at + U(6)] = np.uint8(word >> U(48))
    out[at + U(7)] = np.uint8(word >> U(56))


@numba.njit(inline="always")
def _pack_mini(words, base, width, out, at):  # type: ignore[no-untyped-def]
    """Pack 32 numbers of `width` bits. Writes up to eight bytes beyond the place it returns."""
    if width <= U(_WIDE):  # eight numbers are one store
        for eight in range(_MINI // 8):
            b = base + U(8 * eight)
            low = (words[b] | (words[b + U(1)] << width)) | (
                (words[b + U(2)] | (words[b + U(3)] << width)) << (U(2) * width)
            )
            high = (words[b + U(4)] | (words[b + U(5)] << width)) | (
                (words[b + U(6)] | (words[b + U(7)] << width)) << (U(2) * width)
            )
            _word(out, at, low | (high << (U(4) * width)))
            at += width
        return at
    held = U(0)
    filled = U(0)
    for place in range(_MINI):
        word = words[base + U(place)]
        held |= word << filled
        filled += width
        if filled >= U(64):
            _word(out, at, held)
            at += U(8)
            filled -= U(64)
            held = word >> (width - filled) if filled else U(0)
    _word(out, at, held)
    return at + (filled >> U(3))


@numba.njit(f"uint64({_WORDS}, uint64[::1], uint8[::1])", cache=True, nogil=True, _nrt=False)
def pack_differences(values, block, out):  # type: ignore[no-untyped-def]
    """DELTA_BINARY_PACKED: (n,) integers into `out`; returns how many bytes.

    `block` is room for `BLOCK` words, `out` for `differences_room(n)` bytes. Differences that do
    not fit 64 bits wrap around, as the format has it.
    """
    n = values.shape[0]
    at = _varint(out, U(0), U(BLOCK))
    at = _varint(out, at, U(BLOCK // _MINI))
    at = _varint(out, at, U(n))
    at = _varint(out, at, _zigzag(values[U(0)]) if n else U(0))
    for first in range(1, n, BLOCK):
        count = min(BLOCK, n - first)
        least = np.int64(0x7FFFFFFFFFFFFFFF)
        for k in range(count):
            difference = values[U(first + k)] - values[U(first + k - 1)]
            block[U(k)] = U(difference)
            least = min(least, difference)
        for k in range(count, BLOCK):
            block[U(k)] = U(least)
        at = _varint(out, at, _zigzag(least))
        widths = at
        at += U(BLOCK // _MINI)
        for mini in range(BLOCK // _MINI):
            base = U(_MINI * mini)
            bits = U(0)
            for k in range(_MINI):
                word = block[base + U(k)] - U(least)
                block[base + U(k)] = word
                bits |= word
            width = U(0)
            while bits:
                width += U(1)
                bits >>= U(1)
            out[widths + U(mini)] = np.uint8(width)
            if width:
                at = _pack_mini(block, base, width, out, at)
    return at


@numba.njit(
    f"uint64({_WORDS}, uint64, uint64[::1], uint8[::1])", cache=True, nogil=True, _nrt=False
)
def pack_bits(values, width, block, out):  # type: ignore[no-untyped-def]
    """(n,) numbers of at most `width` bits, the lowest bit first; returns how many bytes.

    The last eight numbers are filled up with zeros. `block` is room for `BLOCK` words.
    """
    n = values.shape[0]
    at = U(0)
    for first in range(0, n, _MINI):
        for k in range(_MINI):
            block[U(k)] = U(values[U(first + k)]) if first + k < n else U(0)
        at = _pack_mini(block, U(0), width, out, at)
    return U((n + 7) // 8) * width


@numba.njit(f"int64({_WORDS}, {_BYTES}, int64[::1])", cache=True, nogil=True, _nrt=False)
def present(values, bits, out):  # type: ignore[no-untyped-def]
    """The values whose bit is set, in their order; returns how many. `out` is room for all."""
    count = U(0)
    for place in range(values.shape[0]):
        out[count] = values[U(place)]
        count += U(bits[U(place >> 3)] >> np.uint8(place & 7) & np.uint8(1))
    return np.int64(count)


@numba.njit(
    f"uint64(Array(int32, 1, 'C', readonly=True), {_BYTES}, uint8[::1])",
    cache=True,
    nogil=True,
    _nrt=False,
)
def plain_texts(offsets, data, out):  # type: ignore[no-untyped-def]
    """PLAIN: every text behind its length in four bytes; returns how many bytes."""
    at = U(0)
    for text in range(offsets.shape[0] - 1):
        start = U(offsets[U(text)])
        length = U(offsets[U(text + 1)]) - start
        for byte in range(4):
            out[at + U(byte)] = np.uint8(length >> U(8 * byte))
        at += U(4)
        for byte in range(length):
            out[at + U(byte)] = data[start + U(byte)]
        at += length
    return at


def differences_room(n: int) -> int:
    """Bytes that `pack_differences`, and `pack_bits`, of n numbers never exceed."""
    blocks = -(-max(n, 1) // BLOCK)
    return 64 + blocks * (8 * BLOCK + 16)
