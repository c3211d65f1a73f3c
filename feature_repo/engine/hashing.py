"""Murmur3 hashes of Arrow texts, a column at a time; equal to the `mmh3` package's.

128 bits name a key (no two of 10^9 keys share them but with probability 10^-21), 64 bits an event
id, 32 bits choose a shard.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

_M32 = np.uint64(0xFFFFFFFF)
_C1 = np.uint64(0x87C37B91114253D5)
_C2 = np.uint64(0x4CF5AD432745937F)
_F1 = np.uint64(0xFF51AFD7ED558CCD)
_F2 = np.uint64(0xC4CEB9FE1A85EC53)


@numba.njit(cache=True, inline="always")
def _rotl(x, r):  # type: ignore[no-untyped-def]
    return (x << np.uint64(r)) | (x >> np.uint64(64 - r))


@numba.njit(cache=True, inline="always")
def _mix(k):  # type: ignore[no-untyped-def]
    k ^= k >> np.uint64(33)
    k *= _F1
    k ^= k >> np.uint64(33)
    k *= _F2
    return k ^ (k >> np.uint64(33))


# Texts in Arrow's buffers are often read-only; a kernel for those takes writable ones too.
_TEXTS = "Array(int32, 1, 'C', readonly=True), Array(uint8, 1, 'C', readonly=True), int64"


@numba.njit(f"void({_TEXTS}, uint64[::1], uint64[::1])", cache=True, nogil=True)
def _murmur128(offsets, data, rows, low, high):  # type: ignore[no-untyped-def]
    for row in range(rows):
        start, end = offsets[row], offsets[row + 1]
        length = end - start
        h1 = np.uint64(0)
        h2 = np.uint64(0)
        blocks = length // 16
        for block in range(blocks):
            at = start + block * 16
            k1 = np.uint64(0)
            k2 = np.uint64(0)
            for byte in range(8):
                k1 |= np.uint64(data[at + byte]) << np.uint64(8 * byte)
                k2 |= np.uint64(data[at + 8 + byte]) << np.uint64(8 * byte)
            h1 ^= _rotl(k1 * _C1, 31) * _C2
            h1 = (_rotl(h1, 27) + h2) * np.uint64(5) + np.uint64(0x52DCE729)
            h2 ^= _rotl(k2 * _C2, 33) * _C1
            h2 = (_rotl(h2, 31) + h1) * np.uint64(5) + np.uint64(0x38495AB5)
        tail = length - blocks * 16
        at = start + blocks * 16
        k1 = np.uint64(0)
        k2 = np.uint64(0)
        for byte in range(tail):
            if byte < 8:
                k1 |= np.uint64(data[at + byte]) << np.uint64(8 * byte)
            else:
                k2 |= np.uint64(data[at + byte]) << np.uint64(8 * (byte - 8))
        if tail > 8:
            h2 ^= _rotl(k2 * _C2, 33) * _C1
        if tail > 0:
            h1 ^= _rotl(k1 * _C1, 31) * _C2
        h1 ^= np.uint64(length)
        h2 ^= np.uint64(length)
        h1 += h2
        h2 += h1
        h1 = _mix(h1)
        h2 = _mix(h2)
        h1 += h2
        h2 += h1
        low[row] = h1
        high[row] = h2


@numba.njit(f"void({_TEXTS}, uint32[::1])", cache=True, nogil=True)
def _murmur32(offsets, data, rows, out):  # type: ignore[no-untyped-def]
    c1 = np.uint64(0xCC9E2D51)
    c2 = np.uint64(0x1B873593)
    for row in range(rows):
        start, end = offsets[row], offsets[row + 1]
        length = end - start
        h = np.uint64(0)
        blocks = length // 4
        for block in range(blocks):
            at = start + block * 4
            k = (
                np.uint64(data[at])
                | np.uint64(data[at + 1]) << np.uint64(8)
                | np.uint64(data[at + 2]) << np.uint64(16)
                | np.uint64(data[at + 3]) << np.uint64(24)
            )
            k = (k * c1) & _M32
            k = ((k << np.uint64(15)) | (k >> np.uint64(17))) & _M32
            h ^= (k * c2) & _M32
            h = ((h << np.uint64(13)) | (h >> np.uint64(19))) & _M32
            h = (h * np.uint64(5) + np.uint64(0xE6546B64)) & _M32
        k = np.uint64(0)
        at = start + blocks * 4
        tail = length - blocks * 4
        for byte in range(tail):
            k |= np.uint64(data[at + byte]) << np.uint64(8 * byte)
        if tail > 0:
            k = (k * c1) & _M32
            k = ((k << np.uint64(15)) | (k >> np.uint64(17))) & _M32
            h ^= (k * c2) & _M32
        h ^= np.uint64(length)
        h ^= h >> np.uint64(16)
        h = (h * np.uint64(0x85EBCA6B)) & _M32
        h ^= h >> np.uint64(13)
        h = (h * np.uint64(0xC2B2AE35)) & _M32
        h ^= h >> np.uint64(16)
        out[row] = np.uint32(h)


def _buffers(texts: pa.Array) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """Offsets (n + 1,) and bytes of a text array."""
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    if texts.type != pa.string():
        texts = texts.cast(pa.string())
    _, offsets, data = texts.buffers()
    if offsets is None:
        return np.zeros(len(texts) + 1, np.int32), np.empty(0, np.uint8)
    ends = np.frombuffer(offsets, np.int32, len(texts) + 1, texts.offset * 4)
    raw = np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    return ends, raw


def hash128(texts: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Low and high half of the 128-bit murmur3 of each text; a null's is an empty text's.

    >>> import mmh3
    >>> low, high = hash128(pa.array(["customer-1", "a text longer than sixteen bytes"]))
    >>> (int(low[1]), int(high[1])) == mmh3.hash64("a text longer than sixteen bytes")
    True
    """
    if isinstance(texts, pa.DictionaryArray):
        # Each different text once; one place more for null.
        distinct = pa.concat_arrays([texts.dictionary.cast(pa.string()), pa.array([""])])
        places = texts.indices.fill_null(len(distinct) - 1).to_numpy()
        of_distinct = hash128(distinct)
        return of_distinct[0][places], of_distinct[1][places]
    offsets, data = _buffers(texts)
    low, high = np.empty(len(texts), np.uint64), np.empty(len(texts), np.uint64)
    _murmur128(offsets, data, len(texts), low, high)
    return low.view(np.int64), high.view(np.int64)


def hash64(texts: pa.Array) -> npt.NDArray[np.int64]:
    """The low half of `hash128`."""
    return hash128(texts)[0]


def hash32(texts: pa.Array) -> npt.NDArray[np.uint32]:
    """The 32-bit murmur3 of each text; a null's is an empty text's.

    >>> import mmh3
    >>> int(hash32(pa.array(["customer-1"]))[0]) == mmh3.hash("customer-1", signed=False)
    True
    """
    offsets, data = _buffers(texts)
    out = np.empty(len(texts), np.uint32)
    _murmur32(offsets, data, len(texts), out)
    return out
