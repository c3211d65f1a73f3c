"""Customer embeddings: their width, their view, and the state that a finished session updates.

A customer's vector depends on all sessions so far, but nobody reads them again: what the encoder
needs of them is the `CustomerState`, stored beside the vector. Both carry the embedding version.
A state of another version is another network's, and is refused.

A customer without a finished session has neither state nor vector: there is no row, not a row of
zeros, which would be near to everybody and to nobody.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from feature_repo.contracts.errors import ModelError

Singles = npt.NDArray[np.float32]

# Numbers of a customer's vector; its length is 1.
EMBEDDING_WIDTH = 64
# The feature view that holds vector, version and the instant of the last session's end.
EMBEDDING_VIEW = "customer_embedding"
VERSION_FEATURE = "embedding_version"
# What became of a vector that a model was not fed, being another version's than it was trained on.
OTHER_VERSION = "OTHER_VERSION"
# Files of an embedding version, beside each other.
SESSION_FILE = "session.onnx"
SNAPSHOT_FILE = "snapshot.onnx"
CUSTOMER_FILE = "customer.onnx"
CODEBOOK_FILE = "embedding.json"

# Storage format: magic and format, fingerprint of the layout, length of the version's name; then
# the name, the counts and instants, and the hidden numbers, all little endian.
_MAGIC = b"DCE\x01"
_HEAD = struct.Struct("<4s8sH")
_BODY = struct.Struct("<qqqqqdd")


@dataclass(frozen=True)
class CustomerState:
    """What the encoder remembers of a customer.

    Attributes:
        version: the embedding version it was made by.
        hidden: (width,) float32, the recurrent numbers of both sequences; the network's own.
        first_us: start of the first session, µs since 1970.
        last_us: end (last event) of the last session: what is not later has been taken in.
        sessions: how many were taken in.
        snapshots: how many financial snapshots were.
        snapshot_us: instant of the last of them; `last_us` bounds it.
        balance_total: sum of the logarithms of their balances.
        balance_last: the logarithm of the last one.
    """

    version: str
    hidden: Singles
    first_us: int
    last_us: int
    sessions: int
    snapshots: int = 0
    snapshot_us: int = 0
    balance_total: float = 0.0
    balance_last: float = 0.0

    def to_bytes(self) -> bytes:
        """Serialise, for the online store."""
        name = self.version.encode()
        return b"".join(
            [
                _HEAD.pack(_MAGIC, layout_fingerprint(len(self.hidden)), len(name)),
                name,
                _BODY.pack(
                    self.first_us, self.last_us, self.sessions, self.snapshots, self.snapshot_us,
                    self.balance_total, self.balance_last,
                ),
                np.ascontiguousarray(self.hidden, dtype="<f4").tobytes(),
            ]
        )  # fmt: skip

    @classmethod
    def from_bytes(cls, raw: bytes, version: str | None = None) -> Self:
        """Read what `to_bytes` wrote.

        Args:
            raw: the bytes.
            version: the embedding version that will go on with it; None takes any.

        Raises:
            ModelError: they are no state, of another layout, or of another embedding version.
        """
        if len(raw) < _HEAD.size or raw[: len(_MAGIC)] != _MAGIC:
            raise ModelError(
                "embedding state", f"{len(raw)} bytes", "a customer's state, format 1",
                "recompute the customer's embedding from the archive",
            )  # fmt: skip
        _, fingerprint, length = _HEAD.unpack_from(raw)
        body = _HEAD.size + length
        width, rest = divmod(len(raw) - body - _BODY.size, 4)
        if width < 1 or rest or fingerprint != layout_fingerprint(width):
            raise ModelError(
                "embedding state", f"{len(raw)} bytes", "a whole state of this layout",
                "recompute the customer's embedding from the archive",
            )  # fmt: skip
        name = raw[_HEAD.size : body].decode(errors="replace")
        if version is not None and name != version:
            raise ModelError(
                "embedding version", name, version,
                "re-embed the customer with the version that serves",
            )  # fmt: skip
        first, last, sessions, snapshots, snapshot, total, balance = _BODY.unpack_from(raw, body)
        hidden = np.frombuffer(raw, dtype="<f4", offset=body + _BODY.size).astype(np.float32)
        return cls(name, hidden, first, last, sessions, snapshots, snapshot, total, balance)


def layout_fingerprint(width: int) -> bytes:
    """Eight bytes that stand for the layout of a state with so many hidden numbers."""
    fields = ",".join(CustomerState.__dataclass_fields__)
    return hashlib.sha256(f"{fields};{_BODY.format};{width}".encode()).digest()[:8]
