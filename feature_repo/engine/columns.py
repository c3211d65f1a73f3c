"""Session events of one shard as numpy columns: encoding, concatenation, selection.

Strings become integers on the way in: customers get slots, low-cardinality attributes get codes,
pages and event ids 64-bit hashes. Everything after is arithmetic on arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mmh3
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.contracts.events import EVENT_TYPE_CODE, OUTSIDE_SESSION

NONE_CODE = -1  # a null attribute, or a null total
_OUTSIDE_CODES = np.array([EVENT_TYPE_CODE[kind] for kind in OUTSIDE_SESSION])

# One row a session event. `order` is the place in the log, which breaks ties in event time;
# `total` is amount + fee of a quote or payment (NONE_CODE without one), both in reference minor
# units.
COLUMN_TYPES: dict[str, type[np.generic]] = {
    "slot": np.int32,
    "time": np.int64,
    "order": np.int64,
    "event": np.int64,
    "kind": np.int8,
    "page": np.int64,
    "amount": np.int64,
    "fee": np.int64,
    "total": np.int64,
    "corridor": np.int32,
    "channel": np.int32,
    "device": np.int32,
}
# One dictionary of arrays of different integer types, which numpy's type hints cannot say.
Columns = dict[str, npt.NDArray[Any]]


def empty() -> Columns:
    """Columns of no events."""
    return {name: np.empty(0, dtype) for name, dtype in COLUMN_TYPES.items()}


def concat(first: Columns, second: Columns) -> Columns:
    """The events of `first`, then those of `second`."""
    return {name: np.concatenate([first[name], second[name]]) for name in COLUMN_TYPES}


def take(columns: Columns, rows: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Columns:
    """The chosen rows (a mask or positions) of every column."""
    return {name: column[rows] for name, column in columns.items()}


# Odd, so that multiplication by it loses nothing (the 64-bit golden ratio).
_SPREAD = np.int64(-7046029254386353131)


def identity(columns: Columns) -> npt.NDArray[np.int64]:
    """One number for each (customer, event id): an id is a customer's own.

    Two pairs share a number with probability 2^-64.
    """
    with np.errstate(over="ignore"):
        mixed: npt.NDArray[np.int64] = columns["event"] ^ (columns["slot"] * _SPREAD)
    return mixed


class Interner:
    """Gives each distinct text a small integer, first come first numbered.

    >>> interner = Interner()
    >>> interner.codes(pa.array(["b", None, "a", "b"])).tolist(), interner.names
    ([0, -1, 1, 0], ['b', 'a'])
    """

    def __init__(self, names: list[str] | None = None) -> None:
        self.names: list[str] = names or []
        self._codes = {name: code for code, name in enumerate(self.names)}

    def _code(self, name: str) -> int:
        code = self._codes.setdefault(name, len(self.names))
        if code == len(self.names):
            self.names.append(name)
        return code

    def codes(self, texts: pa.Array) -> npt.NDArray[np.int32]:
        """One code a text, NONE_CODE for null."""
        return _per_distinct(texts, self._code, NONE_CODE).astype(np.int32)

    def texts(self, codes: npt.NDArray[np.signedinteger[Any]]) -> pa.Array:
        """The texts of codes; null for NONE_CODE."""
        indices = pa.array(codes.astype(np.int32), mask=codes == NONE_CODE)
        return pa.DictionaryArray.from_arrays(indices, pa.array(self.names, pa.string())).cast(
            pa.string()
        )


def _per_distinct(
    texts: pa.Array, number_of: Callable[[str], int], null: int
) -> npt.NDArray[np.int64]:
    """`number_of` applied once to each distinct text, spread over the rows."""
    encoded = texts.dictionary_encode()
    numbers = np.fromiter(
        (number_of(text) for text in encoded.dictionary.to_pylist()),
        np.int64,
        len(encoded.dictionary),
    )
    indices = encoded.indices
    if indices.null_count == 0:
        result: npt.NDArray[np.int64] = numbers[indices.to_numpy()]
        return result
    spread: npt.NDArray[np.int64] = np.append(numbers, null)[
        indices.fill_null(len(numbers)).to_numpy()
    ]
    return spread


def _hash(text: str) -> int:
    # 0 stands for "none"; two texts of one hash would count as one page (2^-64 a pair).
    return int(mmh3.hash64(text)[0]) or 1


def hash_each(texts: pa.Array) -> npt.NDArray[np.int64]:
    """64-bit murmur3 of texts that are (nearly) all distinct, such as event ids."""
    return np.fromiter((_hash(text) for text in texts.to_pylist()), np.int64, len(texts))


def hash_distinct(texts: pa.Array) -> npt.NDArray[np.int64]:
    """64-bit murmur3 of texts that repeat, such as pages; 0 for null."""
    return _per_distinct(texts, _hash, 0)


def _kinds(types: pa.Array) -> npt.NDArray[np.int8]:
    return _per_distinct(types, EVENT_TYPE_CODE.__getitem__, NONE_CODE).astype(np.int8)


def session_events(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The rows that belong to sessions: everything but calls, reports and labels."""
    kinds = _kinds(batch.column("event_type"))
    inside = ~np.isin(kinds, _OUTSIDE_CODES)
    return batch if inside.all() else batch.filter(pa.array(inside))


class Encoder:
    """Turns Arrow batches of one shard into `Columns`; owns the shard's dictionaries."""

    def __init__(self, names: dict[str, list[str]] | None = None) -> None:
        names = names or {}
        self.customers = Interner(names.get("customers"))
        self.corridors = Interner(names.get("corridors"))
        self.channels = Interner(names.get("channels"))
        self.devices = Interner(names.get("devices"))

    def names(self) -> dict[str, list[str]]:
        """A copy of every dictionary, to build an equal encoder from."""
        return {
            "customers": list(self.customers.names),
            "corridors": list(self.corridors.names),
            "channels": list(self.channels.names),
            "devices": list(self.devices.names),
        }

    def encode(self, batch: pa.RecordBatch, first_order: int) -> Columns:
        """Columns of a batch of `EVENT_SCHEMA` that holds session events only.

        `first_order` numbers the batch's first row; rows are numbered in the order of the log.
        """
        rows = len(batch)
        amount, no_amount = _money(batch.column("amount_ref_minor"))
        fee, _ = _money(batch.column("fee_ref_minor"))
        return {
            "slot": self.customers.codes(batch.column("customer_id")),
            "time": batch.column("event_time").cast(pa.int64()).to_numpy(),
            "order": np.arange(first_order, first_order + rows, dtype=np.int64),
            "event": hash_each(batch.column("event_id")),
            "kind": _kinds(batch.column("event_type")),
            "page": hash_distinct(batch.column("page")),
            "amount": amount,
            "fee": fee,
            "total": np.where(no_amount, NONE_CODE, amount + fee),
            "corridor": self.corridors.codes(_corridors(batch)),
            "channel": self.channels.codes(batch.column("channel")),
            "device": self.devices.codes(batch.column("device")),
        }


def _money(minor: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    absent = minor.is_null().to_numpy(zero_copy_only=False)
    return minor.fill_null(0).to_numpy(), absent


def _corridors(batch: pa.RecordBatch) -> pa.Array:
    send, receive = batch.column("send_country"), batch.column("receive_country")
    if send.null_count == len(batch) or receive.null_count == len(batch):
        return pa.nulls(len(batch), pa.string())
    return pc.binary_join_element_wise(send, receive, "-")
