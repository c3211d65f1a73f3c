"""Changes of customers' vectors, on a stream of the online store's server, for who searches them.

A searcher builds its index from the offline store and then follows this stream. Entries are of two
kinds: one customer's new vector, or `reload`, which says that so much has changed (a recomputation,
another version) that the offline rows are better read again. The stream is trimmed: one who has
fallen behind what is kept is told so by `Gap`, and reads the offline rows again too.

Beside it stands which embedding version serves. Vectors of two versions have nothing to do with
each other, so there is one at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import redis

from feature_repo.contracts.embeddings import EMBEDDING_WIDTH, Singles

# A hash: the `version` that serves.
RECORD = "daima:embeddings"
STREAM = "daima:embedding_changes"
# About 400 bytes each: what is kept takes 40 MB.
KEPT = 100_000
START = b"0-0"
_TOGETHER = 1_000


class Gap(Exception):  # noqa: N818 - no error: the follower reads the offline rows again
    """Entries after a position are no longer kept."""


@dataclass(frozen=True)
class Change:
    """A customer's vector, as of the end of their last session (µs since 1970)."""

    customer: str
    version: int
    at_us: int
    vector: Singles


@dataclass(frozen=True)
class Reload:
    """Much has changed of a version: read its offline rows."""

    version: int


def serving_version(client: redis.Redis[bytes]) -> int | None:
    """The embedding version that serves; None before the first vector was written."""
    found: Any = client.hget(RECORD, "version")
    return None if found is None else int(found)


def serve_version(client: redis.Redis[bytes], version: int) -> None:
    """Let a version serve from now on: searchers read its offline rows, which are to be there.

    Trap: the vectors that stand online are those written last. Re-embed all customers first.
    """
    with client.pipeline(transaction=True) as pipeline:
        pipeline.hset(RECORD, "version", str(version))
        pipeline.xadd(STREAM, {b"reload": str(version)}, maxlen=KEPT, approximate=True)
        pipeline.execute()


def tell_changes(client: redis.Redis[bytes], changes: Sequence[Change]) -> None:
    """Append vectors that both stores have; the first version told of is the one that serves."""
    for start in range(0, len(changes), _TOGETHER):
        some = changes[start : start + _TOGETHER]
        with client.pipeline(transaction=False) as pipeline:
            pipeline.hsetnx(RECORD, "version", str(some[0].version))
            for each in some:
                pipeline.xadd(STREAM, _fields(each), maxlen=KEPT, approximate=True)
            pipeline.execute()


def tell_reload(client: redis.Redis[bytes], version: int) -> None:
    """Say that many vectors of a version have changed, instead of each of them."""
    with client.pipeline(transaction=False) as pipeline:
        pipeline.hsetnx(RECORD, "version", str(version))
        pipeline.xadd(STREAM, {b"reload": str(version)}, maxlen=KEPT, approximate=True)
        pipeline.execute()


def last_change(client: redis.Redis[bytes]) -> bytes:
    """The position to follow from after reading the offline rows: take it before reading them."""
    entries: Any = client.xrevrange(STREAM, count=1)
    return entries[0][0] if entries else START


def changes_after(
    client: redis.Redis[bytes], position: bytes, most: int = _TOGETHER
) -> list[tuple[bytes, Change | Reload]]:
    """The entries after a position, oldest first, each with its own.

    Raises:
        Gap: some of them may be gone. Also where the entry at the position was deleted: that costs
            a reading, and is never wrong.
    """
    with client.pipeline(transaction=True) as pipeline:
        pipeline.xrange(STREAM, position, position)
        pipeline.xrange(STREAM, b"(" + position, b"+", count=most)
        pipeline.xlen(STREAM)
        there, entries, length = pipeline.execute()
    if not there and (position != START or (length and _ever(client) > length)):
        raise Gap
    return list(_read(entries))


def forget_changes(client: redis.Redis[bytes], customer: str) -> int:
    """Delete a customer's vectors from the stream; how many there were."""
    name, deleted, last = customer.encode(), 0, b"-"
    while True:
        entries: Any = client.xrange(STREAM, last, "+", count=5_000)
        if not entries:
            return deleted
        its = [at for at, fields in entries if fields.get(b"customer") == name]
        deleted += int(client.xdel(STREAM, *its)) if its else 0
        last = b"(" + entries[-1][0]


def _ever(client: redis.Redis[bytes]) -> int:
    stream: Any = client.xinfo_stream(STREAM)
    return int(stream["entries-added"])


def _fields(change: Change) -> Any:
    return {
        b"customer": change.customer.encode(),
        b"version": str(change.version),
        b"at": str(change.at_us),
        b"vector": np.ascontiguousarray(change.vector, "<f4").tobytes(),
    }


def _read(entries: Any) -> Iterator[tuple[bytes, Change | Reload]]:
    for at, fields in entries:
        if b"reload" in fields:
            yield at, Reload(int(fields[b"reload"]))
            continue
        vector = np.frombuffer(fields[b"vector"], "<f4").astype(np.float32)
        if len(vector) == EMBEDDING_WIDTH:
            customer = fields[b"customer"].decode()
            yield at, Change(customer, int(fields[b"version"]), int(fields[b"at"]), vector)
