"""Who was forgotten, and up to where: tombstones that keep a customer from coming back.

`daima forget CUSTOMER` removes what the stores hold of a customer. What it cannot reach may still
bring the customer back: the live log until its retention has passed, event files, tables that are
delivered again. Each tombstone therefore says from where on a customer's events count again:

- in a live log, after an offset of each partition (`cuts`);
- in files of events and in batch tables, which do not say when a row came, after the instant of
  the forgetting, by the row's own time (`at_us`);
- in the archive every row counts, as the rows of before are gone from its files; until they are
  (`pending`), the customer is hidden there as in any file.

A tombstone holds a customer's hash. The name itself stands in it only while the forgetting is
under way, for those who have to find it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_repo.contracts.errors import DaimaError
from feature_repo.engine.hashing import hash128

FILE = "forgotten.json"
_Flags = npt.NDArray[np.bool_]
_Instants = npt.NDArray[np.int64]


class TombstoneError(DaimaError):
    """The file of tombstones cannot be read: nobody may go on as if there were none."""


class Tombstone(msgspec.Struct, frozen=True):
    """One customer's.

    Attributes:
        at_us: when the forgetting was asked for last, µs since 1970.
        cuts: log -> `entity/partition` -> offset of the last entry that no longer counts.
        applied: feature set -> the partitions (`entity/partition`) whose states and checkpoints
            are without the customer.
        customer: the name, while it is under way; None once it is done.
    """

    at_us: int
    cuts: dict[str, dict[str, int]] = {}
    applied: dict[str, tuple[str, ...]] = {}
    customer: str | None = None


Tombstones = dict[str, Tombstone]


def key_of(customer: str) -> str:
    """The name of a customer's tombstone: 128 bits of murmur3, in hex.

    >>> key_of("c1")
    '9b2aae6a3d7be7d655c73647cce67098'
    """
    low, high = hash128(pa.array([customer]))
    return f"{int(low[0]) & _ALL:016x}{int(high[0]) & _ALL:016x}"


_ALL = (1 << 64) - 1


def place_of(entity: str, partition: int) -> str:
    """How a partition is called in a tombstone."""
    return f"{entity}/{partition}"


class Forgotten:
    """The tombstones at one moment; never changed.

    >>> from datetime import UTC, datetime
    >>> some = Forgotten({key_of("c1"): Tombstone(at_us=5)})
    >>> some.hidden(pa.array(["c1", "c1", "c2"]), np.array([5, 6, 5])).tolist()
    [True, False, False]
    """

    def __init__(self, tombstones: Mapping[str, Tombstone] | None = None) -> None:
        self.tombstones = dict(tombstones or {})

    def __bool__(self) -> bool:
        return bool(self.tombstones)

    @cached_property
    def pending(self) -> Forgotten:
        """Those whose rows may still stand in the archive."""
        return Forgotten({k: each for k, each in self.tombstones.items() if each.customer})

    def hidden(self, customers: pa.Array, known_us: _Instants) -> _Flags:
        """Which of n rows of a file no longer count.

        Args:
            customers: (n,) ids, plain or dictionary-encoded; null is nobody.
            known_us: (n,) the rows' own times, µs since 1970.
        """
        which, rows = self._found(customers)
        flags = np.zeros(len(customers), np.bool_)
        if len(rows):
            until = np.array([each.at_us for each in self.tombstones.values()], np.int64)
            flags[rows] = known_us[rows] <= until[which]
        return flags

    def cut(
        self, customers: pa.Array, offsets: int | _Instants, log: str, entity: str, partition: int
    ) -> _Flags:
        """Which of n events of a live log's partition no longer count.

        Args:
            offsets: where each stands in the log (n,), or where all of them do.
        """
        which, rows = self._found(customers)
        flags = np.zeros(len(customers), np.bool_)
        if len(rows):
            place = place_of(entity, partition)
            ends = [each.cuts.get(log, {}).get(place, -1) for each in self.tombstones.values()]
            until = np.array(ends, np.int64)[which]
            flags[rows] = (offsets if isinstance(offsets, int) else offsets[rows]) <= until
        return flags

    def _found(self, customers: pa.Array) -> tuple[_Instants, npt.NDArray[np.intp]]:
        """(m,) the place of the tombstones found, and (m,) of the rows that they are of."""
        nothing = np.empty(0, np.int64), np.empty(0, np.intp)
        if not self.tombstones or not len(customers):
            return nothing
        if pa.types.is_large_string(customers.type):
            customers = customers.cast(pa.string())
        low, high = hash128(customers)
        lows, highs, places = self._halves
        at = np.minimum(np.searchsorted(lows, low), len(lows) - 1)
        # Two tombstones with one low half are as likely as two customers with one hash.
        rows = np.flatnonzero((lows[at] == low) & (highs[at] == high))
        return places[at[rows]], rows

    @cached_property
    def _halves(self) -> tuple[_Instants, _Instants, _Instants]:
        raw = np.array([[int(k[:16], 16), int(k[16:], 16)] for k in self.tombstones], np.uint64)
        signed = raw.view(np.int64)
        order = np.argsort(signed[:, 0])
        return signed[order, 0], signed[order, 1], order


class ForgottenFile:
    """The file of tombstones in the offline store; many processes may read and change it.

    Args:
        offline: root of the offline store (`Settings.offline`).
    """

    def __init__(self, offline: Path) -> None:
        self._path = offline / FILE
        self._seen: tuple[int, int, int] | None = None
        self._found = Forgotten()

    @classmethod
    def beside(cls, table: Path) -> ForgottenFile:
        """Those of the store that a table's folder lies in."""
        return cls(table.parent)

    def read(self) -> Forgotten:
        """The tombstones now; reads the file only if it is another (2 µs if not).

        The same object as long as nothing has changed, also while there is no file.

        Raises:
            TombstoneError: it is damaged.
        """
        try:
            found = self._path.stat()
        except FileNotFoundError:
            if self._seen is not None:
                self._seen, self._found = None, Forgotten()
            return self._found
        mark = found.st_ino, found.st_mtime_ns, found.st_size
        if mark != self._seen:
            self._found = Forgotten(self._load())
            self._seen = mark
        return self._found

    def change(self, change: Callable[[Tombstones], None]) -> Forgotten:
        """Change the tombstones in one step, one process after the other; on disk at return."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_name(f".{FILE}.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            tombstones = self._load()
            change(tombstones)
            draft = self._path.with_name(f".{FILE}.part")
            with draft.open("wb") as file:
                file.write(msgspec.json.encode(tombstones))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        return self.read()

    def mark_applied(self, feature_set: str, place: str, keys: Iterable[str]) -> None:
        """Note that a partition's states and checkpoint are without some customers."""
        chosen = set(keys)

        def change(tombstones: Tombstones) -> None:
            for key in chosen & tombstones.keys():
                found = tombstones[key]
                places = {*found.applied.get(feature_set, ()), place}
                applied = found.applied | {feature_set: tuple(sorted(places))}
                tombstones[key] = msgspec.structs.replace(found, applied=applied)

        self.change(change)

    def raise_cut(self, keys: Iterable[str], log: str, place: str, offset: int) -> None:
        """Let nothing count that stands in a partition up to an offset."""
        chosen = set(keys)

        def change(tombstones: Tombstones) -> None:
            for key in chosen & tombstones.keys():
                found = tombstones[key]
                of_log = found.cuts.get(log, {})
                if of_log.get(place, -1) < offset:
                    cuts = found.cuts | {log: of_log | {place: offset}}
                    tombstones[key] = msgspec.structs.replace(found, cuts=cuts)

        self.change(change)

    def _load(self) -> Tombstones:
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            return {}
        try:
            return msgspec.json.decode(raw, type=Tombstones)
        except msgspec.MsgspecError as error:
            raise TombstoneError(
                str(self._path), str(error), "tombstones as daima forget writes them",
                "restore the file from a copy: without it, forgotten customers would come back",
            ) from error  # fmt: skip


def without(
    rows: pa.RecordBatch,
    forgotten: Forgotten,
    column: str,
    known_us: Callable[[pa.RecordBatch], _Instants],
) -> pa.RecordBatch:
    """The rows of a file that still count; the batch itself where all do.

    Args:
        column: of the rows' customers.
        known_us: the rows' own times, µs since 1970.
    """
    if not forgotten:
        return rows
    hidden = forgotten.hidden(rows.column(column), known_us(rows))
    return rows.filter(pa.array(~hidden)) if hidden.any() else rows
