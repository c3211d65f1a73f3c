"""The customer's default features in numba written for them alone: no engine, no definitions.

Every event of a customer stays in one stretch of an array, made long enough beforehand; running
sums and the first event of each window are kept in a row of integers a customer. What general
definitions, bounded memory and read-time evaluation cost shows beside it.
"""

# ruff: noqa: N803, PLR0912, PLR0917, PLR1714, SIM109 - compiled code, as in the engine

from __future__ import annotations

import time

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_repo.contracts.events import EVENT_TYPE_CODE
from feature_repo.engine.hashing import hash64
from tests.benchmarks.stateful_map import (
    _ACTIONS,
    _OUTSIDE,
    FAILED,
    GAP_US,
    LATENESS_US,
    PAGE_VIEW,
    PAYMENT,
    QUOTE,
    W1H_US,
    W5_US,
    W7_US,
    W24_US,
)

INTEGERS, FLOATS = 42, 7
NULL = np.iinfo(np.int64).min
_Words = npt.NDArray[np.int64]

# A customer's row of integers.
_BASE, _EVENTS, _PAID = 0, 1, 2  # where the events begin, how many, how many payments
_POINTERS, _FIRST_PAID = 3, 7  # first event of each window; first payment of a week
_SUMS = 8  # six of each window
_START, _LAST, _COUNT, _VIEWS, _DONE, _PAYS, _FAILS, _PAGES, _PAYABLE = range(32, 41)
_CODES = 41  # corridor, channel, device
_BEFORE = 44  # duration, events, end
_LIFE, _LIFE_SUM, _PAID_AT, _SQUARES, _AMOUNTS = range(47, 52)
_WIDTH = 52
# An event's row of integers.
_T, _KIND, _AMOUNT, _TOTAL, _FEE, _PAYEE, _ID, _TEXTS = range(8)

_WINDOWS = np.array([W5_US, W1H_US, W24_US, W7_US])
_DOES = np.array([kind in _ACTIONS for kind in range(16)])
_OUT = np.array([kind in _OUTSIDE for kind in range(16)])
_HOUR_US, _DAY_US = 3_600_000_000, 86_400_000_000


@numba.njit(cache=True)
def _fold(S, E, P, s, i, row, oi, of):  # type: ignore[no-untyped-def]
    """Take in event i of customer s; the row goes to `row`, unless that is -1."""
    e = E[S[s, _BASE] + i]
    t, kind = e[_T], e[_KIND]
    base = S[s, _BASE]
    for w in range(4):
        p = S[s, _POINTERS + w]
        sums = _SUMS + 6 * w
        limit = t - _WINDOWS[w]
        while p < i and E[base + p, _T] <= limit:
            old = E[base + p]
            if not _OUT[old[_KIND]]:
                S[s, sums] -= 1
            if old[_KIND] == PAGE_VIEW:
                S[s, sums + 1] -= 1
            elif old[_KIND] == PAYMENT:
                S[s, sums + 2] -= 1
                if old[_AMOUNT] != NULL:
                    S[s, sums + 4] -= old[_AMOUNT]
                    if w == 3:
                        S[s, _AMOUNTS] -= 1
                        S[s, _SQUARES] -= old[_AMOUNT] * old[_AMOUNT]
                if old[_FEE] != NULL:
                    S[s, sums + 5] -= old[_FEE]
                if w == 3:
                    S[s, _FIRST_PAID] += 1
            elif old[_KIND] == FAILED:
                S[s, sums + 3] -= 1
            p += 1
        S[s, _POINTERS + w] = p
    if not _OUT[kind]:
        if S[s, _START] == NULL or t - S[s, _LAST] > GAP_US:
            if S[s, _START] != NULL:
                S[s, _BEFORE] = S[s, _LAST] - S[s, _START]
                S[s, _BEFORE + 1] = S[s, _COUNT]
                S[s, _BEFORE + 2] = S[s, _LAST]
            S[s, _START] = t
            for c in range(_COUNT, _PAYABLE):
                S[s, c] = 0
            S[s, _PAYABLE] = NULL
            for c in range(3):
                S[s, _CODES + c] = 0
        S[s, _LAST] = t
        S[s, _COUNT] += 1
        S[s, _LIFE] += 1
        which = -1
        if kind == PAGE_VIEW:
            which = 1
            S[s, _VIEWS] += 1
        elif kind == PAYMENT:
            which = 2
            S[s, _PAYS] += 1
            S[s, _PAID_AT] = t
            P[base + S[s, _PAID]] = i
            S[s, _PAID] += 1
            if e[_AMOUNT] != NULL:
                S[s, _LIFE_SUM] += e[_AMOUNT]
                S[s, _AMOUNTS] += 1
                S[s, _SQUARES] += e[_AMOUNT] * e[_AMOUNT]
        elif kind == FAILED:
            which = 3
            S[s, _FAILS] += 1
        for w in range(4):
            sums = _SUMS + 6 * w
            S[s, sums] += 1
            if which > 0:
                S[s, sums + which] += 1
            if which == 2:
                if e[_AMOUNT] != NULL:
                    S[s, sums + 4] += e[_AMOUNT]
                if e[_FEE] != NULL:
                    S[s, sums + 5] += e[_FEE]
        if _DOES[kind]:
            S[s, _DONE] += 1
        texts = e[_TEXTS]
        page = texts & 0xFFFF
        if page > 0:
            S[s, _PAGES] |= np.int64(1) << (page - 1)
        if e[_TOTAL] != NULL and (kind == QUOTE or kind == PAYMENT):
            S[s, _PAYABLE] = e[_TOTAL]
        for c in range(3):
            code = texts >> (16 * (c + 1)) & 0xFFFF
            if code > 0:
                S[s, _CODES + c] = code
    if row < 0:
        return
    before = S[s, _BEFORE], S[s, _BEFORE + 1], S[s, _BEFORE + 2]
    if S[s, _START] != NULL and t - S[s, _LAST] <= GAP_US:
        start = S[s, _START]
        seconds = (S[s, _LAST] - start) / 1e6
        oi[row, 0] = start
        oi[row, 1] = start % _DAY_US // _HOUR_US
        oi[row, 2] = (start // _DAY_US + 3) % 7
        of[row, 0] = seconds
        for c in range(5):
            oi[row, 3 + c] = S[s, _COUNT + c]
        pages = np.uint64(S[s, _PAGES])
        distinct = 0
        while pages:
            pages &= pages - np.uint64(1)
            distinct += 1
        oi[row, 8] = distinct
        oi[row, 9] = S[s, _PAYABLE]
        of[row, 1] = np.nan
        if S[s, _PAYABLE] != NULL and seconds > 0:
            of[row, 1] = S[s, _PAYABLE] / seconds
        for c in range(3):
            oi[row, 10 + c] = S[s, _CODES + c]
    else:
        for c in range(3):
            oi[row, c] = NULL
            oi[row, 10 + c] = 0
        for c in range(3, 9):
            oi[row, c] = 0
        oi[row, 9] = NULL
        of[row, 0] = of[row, 1] = np.nan
        if S[s, _START] != NULL:
            before = S[s, _LAST] - S[s, _START], S[s, _COUNT], S[s, _LAST]
    of[row, 2] = np.nan if before[1] == 0 else before[0] / 1e6
    oi[row, 13] = before[1]
    of[row, 3] = np.nan if before[1] == 0 else (t - before[2]) / 1e6
    for c in range(24):
        oi[row, 14 + c] = S[s, _SUMS + c]
    count = S[s, _AMOUNTS]
    of[row, 4] = of[row, 5] = np.nan
    oi[row, 38] = NULL
    if count > 0:
        paid = S[s, _SUMS + 18 + 4]
        of[row, 4] = paid / count
        of[row, 5] = np.sqrt(max(count * S[s, _SQUARES] - paid * paid, 0)) / count
    payees = 0
    for a in range(S[s, _FIRST_PAID], S[s, _PAID]):
        one = E[base + P[base + a]]
        if one[_AMOUNT] != NULL and one[_AMOUNT] > oi[row, 38]:
            oi[row, 38] = one[_AMOUNT]
        new = one[_PAYEE] != 0
        for b in range(S[s, _FIRST_PAID], a):
            if E[base + P[base + b], _PAYEE] == one[_PAYEE]:
                new = False
        payees += new
    oi[row, 39] = payees
    oi[row, 40] = S[s, _LIFE]
    oi[row, 41] = S[s, _LIFE_SUM]
    of[row, 6] = np.nan if S[s, _PAID_AT] == NULL else (t - S[s, _PAID_AT]) / 1e6


@numba.njit(cache=True)
def _forget(S, s):  # type: ignore[no-untyped-def]
    """Everything but where the events are."""
    for c in range(_PAID, _WIDTH):
        S[s, c] = 0
    S[s, _START] = S[s, _PAID_AT] = S[s, _PAYABLE] = NULL


@numba.njit(cache=True)
def _run(keys, table, S, E, P, events, oi, of):  # type: ignore[no-untyped-def]
    """Fold a batch; returns how many rows there are."""
    rows = 0
    for k in range(keys.shape[0]):
        at = keys[k] & (table.shape[0] - 1)
        while table[at, 0] != keys[k]:
            at = (at + 1) & (table.shape[0] - 1)
        s = table[at, 1]
        base, n = S[s, _BASE], S[s, _EVENTS]
        t = events[k, _T]
        place = n
        repeated = False
        i = n - 1
        while i >= 0 and E[base + i, _T] > t - LATENESS_US:
            if E[base + i, _ID] == events[k, _ID]:
                repeated = True
                break
            if E[base + i, _T] > t:
                place = i
            i -= 1
        if repeated:
            continue
        S[s, _EVENTS] = n + 1
        if place == n:
            E[base + n] = events[k]
            _fold(S, E, P, s, n, rows, oi, of)
            rows += 1
            continue
        for i in range(n, place, -1):
            E[base + i] = E[base + i - 1]
        E[base + place] = events[k]
        _forget(S, s)
        for i in range(n + 1):
            _fold(S, E, P, s, i, rows if i >= place else -1, oi, of)
            rows += i >= place
    return rows


class PlainNumba:
    """All customers of a workload whose events are known beforehand.

    Args:
        keys: hashes of the customers of all events to come, one an event.

    Attributes:
        kernel_s: time spent in the compiled code so far.
    """

    def __init__(self, keys: _Words) -> None:
        self.kernel_s = 0.0
        distinct, counts = np.unique(keys, return_counts=True)
        size = 1 << int(2 * len(distinct)).bit_length()
        self._table = np.zeros((size, 2), np.int64)
        for slot, key in enumerate(distinct.tolist()):
            at = key & (size - 1)
            while self._table[at, 0]:
                at = (at + 1) & (size - 1)
            self._table[at] = key, slot
        self._state = np.zeros((len(distinct), _WIDTH), np.int64)
        for column in (_START, _PAID_AT, _PAYABLE):
            self._state[:, column] = NULL
        self._state[:, _BASE] = np.cumsum(counts) - counts
        self._events = np.empty((len(keys), 8), np.int64)
        self._paid = np.empty(len(keys), np.int32)
        self._pages: dict[str, int] = {}
        self._texts: dict[str, int] = {}

    def fold(self, batch: pa.RecordBatch) -> tuple[_Words, npt.NDArray[np.float64]]:
        """The rows of a batch: integers (r, 42) and floats (r, 7) in the order of the outputs."""
        keys = hash64(batch.column("customer_id"))
        events = np.empty((len(batch), 8), np.int64)
        events[:, _T] = batch.column("event_time").cast(pa.int64()).to_numpy()
        events[:, _KIND] = self._codes(batch.column("event_type"), dict(EVENT_TYPE_CODE))
        amount, fee = batch.column("amount_ref_minor"), batch.column("fee_ref_minor")
        events[:, _AMOUNT] = amount.fill_null(NULL).to_numpy()
        events[:, _FEE] = fee.fill_null(NULL).to_numpy()
        total = events[:, _AMOUNT] + np.where(events[:, _FEE] == NULL, 0, events[:, _FEE])
        events[:, _TOTAL] = np.where(events[:, _AMOUNT] == NULL, NULL, total)
        payees = batch.column("counterparty_id")
        known = payees.is_valid().to_numpy(zero_copy_only=False)
        events[:, _PAYEE] = np.where(known, hash64(payees), 0)
        events[:, _ID] = hash64(batch.column("event_id"))
        events[:, _TEXTS] = self._codes(batch.column("page"), self._pages)
        send, receive = (self._codes(batch.column(f"{end}_country")) for end in ("send", "receive"))
        corridor = np.where((send > 0) & (receive > 0), send << 8 | receive, 0)
        codes = (
            corridor,
            self._codes(batch.column("channel")),
            self._codes(batch.column("device")),
        )
        for place, code in enumerate(codes, 1):
            events[:, _TEXTS] |= code << (16 * place)
        oi = np.empty((2 * len(batch) + 4096, INTEGERS), np.int64)
        of = np.empty((len(oi), FLOATS), np.float64)
        began_s = time.process_time()
        rows = _run(keys, self._table, self._state, self._events, self._paid, events, oi, of)
        self.kernel_s += time.process_time() - began_s
        return oi[:rows], of[:rows]

    def text(self, code: int) -> str | None:
        """The text of a code."""
        return list(self._texts)[code - 1] if code else None

    def _codes(self, texts: pa.Array, known: dict[str, int] | None = None) -> _Words:
        encoded = texts.dictionary_encode()
        known = self._texts if known is None else known
        codes = [known.setdefault(text, len(known) + 1) for text in encoded.dictionary.to_pylist()]
        found = np.array([*codes, 0], np.int64)
        result: _Words = found[encoded.indices.fill_null(len(codes)).to_numpy()]
        return result
