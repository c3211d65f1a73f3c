"""Named random streams: every draw depends on the seed and its own name, never on call order."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
UInts = npt.NDArray[np.uint64]

_HEX = np.array([f"{byte:02x}".encode() for byte in range(256)], dtype="S2").view(np.uint16)


def stream(seed: int, name: str, *at: int) -> np.random.Generator:
    """A generator of its own for one purpose, and one day where a day is given.

    >>> bool(stream(1, "people.corridor").random() == stream(1, "people.corridor").random())
    True
    """
    entropy = [seed, zlib.crc32(name.encode()), *at]
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(entropy)))


def mix64(values: UInts, salt: int) -> UInts:
    """Shuffle 64-bit numbers one to one (splitmix64's finaliser): distinct stay distinct.

    Source: Steele, Lea and Flood, OOPSLA 2014, section 5.
    """
    mixed = values + np.uint64(salt & 0xFFFF_FFFF_FFFF_FFFF)  # wraps, as it should
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def hex_ids(values: UInts) -> pa.Array:
    """Write numbers as Arrow strings of 16 hexadecimal digits, without a Python loop.

    >>> hex_ids(np.array([255, 1], dtype=np.uint64)).to_pylist()
    ['00000000000000ff', '0000000000000001']
    """
    pairs = _HEX[values.astype(">u8").view(np.uint8)]
    offsets = np.arange(0, 16 * len(values) + 1, 16, dtype=np.int32)
    return pa.StringArray.from_buffers(
        len(values), pa.py_buffer(offsets.tobytes()), pa.py_buffer(pairs.tobytes())
    )


def choose(weights: Floats, u: Floats) -> Ints:
    """Pick an index by weight for each uniform number: shapes (k,) and (n,) -> (n,)."""
    edges = np.cumsum(weights) / np.sum(weights)
    return np.minimum(np.searchsorted(edges, u, side="right"), len(weights) - 1).astype(np.int64)


def lognormal(rng: np.random.Generator, sigma: float, n: int) -> Floats:
    """`n` lognormal factors of median 1."""
    return np.exp(sigma * rng.standard_normal(n))


def hashed_uniforms(seed: int, name: str, customer: Ints, number: Ints) -> tuple[Floats, Floats]:
    """Two uniform numbers for each (customer, number), whoever asks and whenever: shapes (n,).

    For what is drawn once a customer and, say, cycle, without drawing those before it. `number`
    counts to at most 2**31 in either direction.
    """
    salt = int(stream(seed, name).integers(2**63))
    key = (customer.astype(np.uint64) << np.uint64(32)) + (number + (1 << 31)).astype(np.uint64)
    bits = mix64(key, salt)
    low = (bits & np.uint64(0xFFFF_FFFF)).astype(np.float64)
    return (bits >> np.uint64(32)).astype(np.float64) * 2.0**-32, low * 2.0**-32
