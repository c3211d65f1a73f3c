"""Turns a batch of events into numbers for the kernels: hashes, instants, bits, words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.contracts.definition import Comparison, Operator
from feature_repo.contracts.errors import DaimaError
from feature_repo.contracts.events import (
    EVENT_TYPE_CODE,
    EVENT_TYPES,
    OUTSIDE_SESSION,
    EventType,
)
from feature_repo.engine import opcodes as op
from feature_repo.engine.hashing import hash64, hash128
from feature_repo.engine.program import Program
from feature_repo.engine.projection import join_texts, key_column, log_times_us
from feature_repo.engine.stored import Stored

_COMPARE: dict[Operator, Callable[..., Any]] = {
    Operator.EQ: pc.equal,
    Operator.NE: pc.not_equal,
    Operator.LT: pc.less,
    Operator.LE: pc.less_equal,
    Operator.GT: pc.greater,
    Operator.GE: pc.greater_equal,
}
_INSIDE = frozenset(EventType) - OUTSIDE_SESSION
_LABEL = EVENT_TYPE_CODE[EventType.LABEL]
_FEW = 64
_Bits = npt.NDArray[np.bool_]
_Words = npt.NDArray[np.int64]


class Interner:
    """Gives each distinct text a small integer from 1 on; 0 is null.

    Its texts are also laid out end to end, for kernels that write them into states.
    """

    def __init__(self, texts: list[str] | None = None) -> None:
        self.texts: list[str] = texts or []
        self._codes = {text: code for code, text in enumerate(self.texts, 1)}
        self._laid_out = -1
        self._array = pa.array([], pa.string())

    def codes(self, texts: pa.Array) -> _Words:
        """One code a text.

        >>> Interner().codes(pa.array(["b", None, "a", "b"])).tolist()
        [1, 0, 2, 1]
        """
        return self.codes_of(*split_texts(texts))

    def codes_of(self, distinct: list[str], places: npt.NDArray[np.int32]) -> _Words:
        """One code a place in `distinct`; 0 for the place behind its last, which is null's."""
        null = len(distinct)
        if len(places) <= _FEW:  # so many calls of numpy take as long
            found = [self._code(distinct[at]) if at < null else 0 for at in places.tolist()]
            return np.array(found, np.int64)
        codes = np.zeros(null + 1, np.int64)
        few = len(places) < null
        for at in np.unique(places).tolist() if few else range(null):
            if at < null:
                codes[at] = self._code(distinct[at])
        result: _Words = codes[places]
        return result

    def _code(self, text: str) -> int:
        code = self._codes.setdefault(text, len(self.texts) + 1)
        if code > len(self.texts):
            if code > op.TEXT_MASK:
                raise DaimaError(
                    "distinct texts", code, f"at most {op.TEXT_MASK} a shard", "use more shards"
                )
            self.texts.append(text)
        return code

    def layout(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
        """Ends (k + 2,) and bytes of all texts; text c lies at ends[c]:ends[c + 1]."""
        if self._laid_out != len(self.texts):
            raw = [text.encode() for text in self.texts]
            self._ends = np.zeros(len(raw) + 2, np.int64)
            np.cumsum([len(text) for text in raw], out=self._ends[2:])
            self._data = np.frombuffer(b"".join(raw) or b"\0", np.uint8)
            self._laid_out = len(self.texts)
        return self._ends, self._data

    def array(self, codes: _Words) -> pa.Array:
        """The texts of codes; null for 0."""
        if len(self._array) < codes.max(initial=0):
            self._array = pa.array(self.texts, pa.string())
        indices = pa.array((codes - 1).astype(np.int32), mask=codes == 0)
        return pa.DictionaryArray.from_arrays(indices, self._array).cast(pa.string())


def split_texts(texts: pa.Array) -> tuple[list[str], npt.NDArray[np.int32]]:
    """The different texts, and each row's place among them; null's is behind the last."""
    if texts.null_count == len(texts):
        return [], np.zeros(len(texts), np.int32)
    encoded = texts if pa.types.is_dictionary(texts.type) else texts.dictionary_encode()
    distinct = encoded.dictionary.to_pylist()
    return distinct, encoded.indices.fill_null(len(distinct)).to_numpy()


@dataclass(frozen=True)
class Encoded:
    """n events as the kernels take them.

    Attributes:
        keys: (n,) the keys' texts, perhaps dictionary-encoded.
        low, high: (n,) 128-bit hash of the key.
        ident: (n,) hash of (key, event id).
        known: (n,) log time, µs since 1970.
        words: (n, `E_VALUES` + stored columns) each event as the kernels read it: event time and
            log time, which filters it passes and which stored columns it has, the columns' words.
    """

    keys: pa.Array
    low: _Words
    high: _Words
    ident: _Words
    known: _Words
    words: npt.NDArray[np.int64]


# Odd, so that multiplication by it loses nothing (the 64-bit golden ratio).
_SPREAD = np.int64(-7046029254386353131)


class Encoding:
    """A batch encoded for any shard: only texts and numbers of events are a shard's own.

    Args:
        program: of the entity.
        events: whose keys are all there.
    """

    def __init__(self, program: Program, events: pa.RecordBatch) -> None:
        rows = len(events)
        self.keys = key_column(program.entity, events)
        self._low, self._high = hash128(self.keys)
        with np.errstate(over="ignore"):
            self._ident = hash64(events.column("event_id")) ^ (self._low * _SPREAD)
        columns = _Columns(events)
        bits = _bits_of_filters(program, columns)
        # A copy: Arrow's memory is read-only, for which the kernels would be compiled once more.
        self._known = np.array(log_times_us(events))
        labels = columns.kinds == _LABEL
        if label_bit := int(program.constants[op.K_LABEL_BIT]):
            bits |= np.where(labels, label_bit, 0)
        # An event's words together: the kernels take events up key by key, not in this order.
        self._words = np.empty((rows, op.E_VALUES + len(program.stored)), np.int64)
        self._words[:, op.E_TIME] = events.column("event_time").cast(pa.int64()).to_numpy()
        self._words[:, op.E_KNOWN] = self._known
        self._texts: list[tuple[int, int, list[str], npt.NDArray[np.int32]]] = []
        self._ordinal = -1
        for at, stored in enumerate(program.stored, op.E_VALUES):
            if stored.kind == "known":
                self._words[:, at], present = self._known, labels
            elif stored.kind == "ordinal":
                self._ordinal, present = at, ~labels
            elif stored.kind == "texts":
                present = self._split(at, stored, columns) & _passing(program, stored, bits)
            else:
                self._words[:, at], present = _values(stored, columns)
                present &= _passing(program, stored, bits)
            bits |= present.astype(np.int64) << (len(program.filters) + at - op.E_VALUES)
        self._words[:, op.E_BITS] = bits

    def _split(self, at: int, stored: Stored, columns: _Columns) -> _Bits:
        present = np.zeros(len(self._known), np.bool_)
        for place, name in enumerate(stored.sources):
            distinct, places = split_texts(columns[name])
            self._texts.append((at, op.TEXT_BITS * place, distinct, places))
            present |= places < len(distinct)
        return present

    def cut(self, start: int, stop: int, interner: Interner, first: int) -> Encoded:
        """Events start..stop-1 for a shard, whose texts are the interner's.

        The first of them is its event number `first`.
        """
        whole = stop - start == len(self._known)
        # Whoever takes all takes this table itself: there is nobody else.
        words = self._words if whole else self._words[start:stop].copy()
        part = slice(start, stop)
        for at in {at for at, *_ in self._texts}:
            words[:, at] = 0
        for at, shift, distinct, places in self._texts:
            if distinct:
                words[:, at] |= interner.codes_of(distinct, places[part]) << shift
        if self._ordinal >= 0:
            words[:, self._ordinal] = np.arange(first, first + stop - start)
        return Encoded(
            self.keys.slice(start, stop - start),
            self._low[part],
            self._high[part],
            self._ident[part],
            self._known[part],
            words,
        )


def _bits_of_filters(program: Program, columns: _Columns) -> _Words:
    by_kind = np.zeros(len(EVENT_TYPES) + 1, np.int64)
    for at, chosen in enumerate(program.filters):
        for kind in chosen.event_types or _INSIDE:
            by_kind[EVENT_TYPE_CODE[kind]] |= 1 << at
    bits: _Words = by_kind[columns.kinds]
    for at, chosen in enumerate(program.filters):
        for comparison in chosen.where:
            bits[~_holds(comparison, columns)] &= ~(1 << at)
    return bits


def _passing(program: Program, stored: Stored, bits: _Words) -> _Bits:
    """Which events pass a filter of the features that use a stored column."""
    wanted = sum(1 << program.filters.index(one) for one in stored.filters)
    result: _Bits = bits & wanted != 0
    return result


class _Columns:
    """A batch's columns by name, the derived ones included."""

    def __init__(self, events: pa.RecordBatch) -> None:
        self.events = events
        self._derived: dict[str, pa.Array] = {}
        encoded = events.column("event_type")
        if not pa.types.is_dictionary(encoded.type):
            encoded = encoded.dictionary_encode()
        codes = [
            EVENT_TYPE_CODE.get(kind, len(EVENT_TYPES)) for kind in encoded.dictionary.to_pylist()
        ]
        self.kinds = np.array([*codes, 0], np.int64)[encoded.indices.to_numpy()]

    def __getitem__(self, name: str) -> pa.Array:
        if name == "corridor":
            if name not in self._derived:
                ends = (self.events.column("send_country"), self.events.column("receive_country"))
                self._derived[name] = join_texts(list(ends))
            return self._derived[name]
        if name == "total_ref_minor":
            if name not in self._derived:
                fee = self.events.column("fee_ref_minor").fill_null(0)
                self._derived[name] = pc.add(self.events.column("amount_ref_minor"), fee)
            return self._derived[name]
        return self.events.column(name)


def _holds(comparison: Comparison, columns: _Columns) -> _Bits:
    column = columns[comparison.column]
    if pa.types.is_dictionary(column.type):
        column = column.cast(pa.string())
    fits = _COMPARE[comparison.operator](column, pa.scalar(comparison.value))
    result: _Bits = fits.fill_null(False).to_numpy(zero_copy_only=False)
    return result


def _values(stored: Stored, columns: _Columns) -> tuple[_Words, _Bits]:
    """A stored column's words and where it has a value."""
    rows = len(columns.events)
    if stored.kind == "one":
        there = np.ones(rows, np.bool_)
        if stored.sources:
            there = columns[stored.sources[0]].is_valid().to_numpy(zero_copy_only=False)
        return np.ones(rows, np.int64), there
    column = columns[stored.sources[0]]
    present = column.is_valid().to_numpy(zero_copy_only=False)
    if stored.kind == "hash":
        return (hash64(column) if present.any() else np.zeros(rows, np.int64)), present
    if stored.kind == "float":
        # NaN is no value: no aggregate could be compared with its oracle.
        numbers = column.fill_null(0.0).to_numpy().astype(np.float64)
        present = present & ~np.isnan(numbers)
        # -0.0 and 0.0 are one number with two bit patterns.
        return (numbers + 0.0).view(np.int64), present
    if column.null_count:
        column = column.fill_null(0)
    return column.to_numpy().astype(np.int64, copy=False), present
