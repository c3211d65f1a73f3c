"""The kernels' outputs as Arrow columns: numbers, texts, sequences, and what is derived."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.contracts.definition import AS_OF, Dtype, Function
from feature_repo.engine.program import Program, Slot

Texts = Callable[[npt.NDArray[np.int64], npt.NDArray[np.intp]], pa.Array]
_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US
_EPOCH_WEEKDAY = 3  # 1 January 1970 was a Thursday; Monday is 0
_LAST_NIGHT_HOUR = 6
_SATURDAY = 5


class Outputs:
    """Rows as the kernels write them: integers, floats, and flags that say where a value is."""

    def __init__(self, program: Program, rows: int) -> None:
        self.integers = np.empty((rows, max(program.integers, 1)), np.int64)
        self.floats = np.empty((rows, max(program.floats, 1)), np.float64)
        self.ok = np.empty((rows, max(program.flags, 1)), np.uint8)

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """Integers, floats, the floats' bits, flags: as the kernels take them."""
        return self.integers, self.floats, self.floats.view(np.int64), self.ok

    def grown(self, program: Program, rows: int) -> Outputs:
        """A copy with room for more rows."""
        more = Outputs(program, rows)
        have = len(self.integers)
        more.integers[:have] = self.integers
        more.floats[:have] = self.floats
        more.ok[:have] = self.ok
        return more

    def taken(self, rows: npt.NDArray[np.int64]) -> Outputs:
        """A copy of the chosen rows, in their order."""
        return _outputs(self.integers[rows], self.floats[rows], self.ok[rows])

    @staticmethod
    def joined(parts: Sequence[Outputs]) -> Outputs:
        """The rows of several, one after the other."""
        return _outputs(
            np.concatenate([part.integers for part in parts]),
            np.concatenate([part.floats for part in parts]),
            np.concatenate([part.ok for part in parts]),
        )

    def columns(self, order: npt.NDArray[np.int64]) -> Columns:
        """The chosen rows, in their order, column by column."""
        rows = len(order)
        # Columns a power of two apart fall on the same cache lines: measured, 2.6 times slower.
        apart = rows + _PADDING
        integers = np.empty((self.integers.shape[1], apart), np.int64)
        floats = np.empty((self.floats.shape[1], apart), np.float64)
        ok = np.empty((self.ok.shape[1], apart), np.uint8)
        turn(self.integers, order, integers)
        turn(self.floats.view(np.int64), order, floats.view(np.int64))
        turn(self.ok, order, ok)
        return Columns(integers[:, :rows], floats[:, :rows], ok[:, :rows])


def _outputs(
    integers: npt.NDArray[np.int64], floats: npt.NDArray[np.float64], ok: npt.NDArray[np.uint8]
) -> Outputs:
    made = object.__new__(Outputs)
    made.integers, made.floats, made.ok = integers, floats, ok
    return made


@dataclass(frozen=True)
class Columns:
    """Outputs column by column."""

    integers: npt.NDArray[np.int64]
    floats: npt.NDArray[np.float64]
    ok: npt.NDArray[np.uint8]


_PADDING = 24


@numba.njit(cache=True, nogil=True, _nrt=False)
def turn(rows, order, columns):  # type: ignore[no-untyped-def]
    """columns[c, k] = rows[order[k], c]."""
    for k in range(order.shape[0]):
        row = order[k]
        for column in range(columns.shape[0]):
            columns[column, k] = rows[row, column]


def feature_columns(
    program: Program,
    outputs: Columns,
    at_us: npt.NDArray[np.int64],
    texts: Texts,
) -> list[pa.Array]:
    """The features of the rows, in the order of `program.outputs`.

    `texts` turns codes into texts, given the codes and the rows that they belong to.
    """
    columns = {slot.name: _column(slot, outputs, len(at_us), texts) for slot in program.slots}
    for derivation in program.derivations:
        inputs = [pa.array(at_us) if name == AS_OF else columns[name] for name in derivation.inputs]
        columns[derivation.name] = derive(Function(derivation.function), inputs)
    return [columns[output.name] for output in program.outputs]


def _column(slot: Slot, outputs: Columns, rows: int, texts: Texts) -> pa.Array:
    if slot.n:
        return _sequences(slot, outputs, rows, texts)
    numbers = outputs.floats if slot.dtype is Dtype.FLOAT64 else outputs.integers
    column = numbers[slot.at]
    if slot.ok < 0:
        return pa.array(column)
    ok = outputs.ok[slot.ok].view(np.bool_)
    if slot.text:
        return texts(np.where(ok, column, 0), np.arange(rows))
    if ok.all():
        return pa.array(column)
    masked = pa.array(column, mask=~ok)
    return masked if slot.default is None else masked.fill_null(_default(slot))


def _default(slot: Slot) -> float | int | None:
    if slot.default is None or slot.dtype is Dtype.FLOAT64:
        return slot.default
    return int(slot.default)


def _sequences(slot: Slot, outputs: Columns, rows: int, texts: Texts) -> pa.Array:
    ok = outputs.ok[slot.ok].view(np.bool_)
    counts = np.where(ok, outputs.integers[slot.at], 0)
    values = outputs.integers[slot.at + 1 : slot.at + 1 + slot.n].T
    inside = np.arange(slot.n) < counts[:, None]
    flat = np.ascontiguousarray(values[inside])
    items = texts(flat, np.repeat(np.arange(rows), counts)) if slot.text else pa.array(flat)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    # A null list has no length of its own: its start is marked null.
    starts = pa.array(offsets, mask=np.append(~ok, False))
    return pa.ListArray.from_arrays(starts, items)


def derive(function: Function, inputs: list[pa.Array]) -> pa.Array:
    """A derived feature from its inputs, row by row; null where an input is.

    >>> derive(Function.HOUR, [pa.array([3_600_000_000 * 25, None])]).to_pylist()
    [1, None]
    >>> derive(Function.RATIO, [pa.array([6, 1]), pa.array([4.0, 0.0])]).to_pylist()
    [1.5, None]
    """
    if function is Function.RATIO:
        top, bottom = (one.cast(pa.float64(), safe=False) for one in inputs)
        zero = pc.equal(bottom, 0.0)
        safe = pc.if_else(zero, pa.scalar(None, pa.float64()), bottom)
        return pc.divide(top, safe)
    instants = inputs[0]
    null = instants.is_null().to_numpy(zero_copy_only=False)
    us = instants.cast(pa.int64()).fill_null(0).to_numpy()
    hour = us % _DAY_US // _HOUR_US
    weekday = (us // _DAY_US + _EPOCH_WEEKDAY) % 7
    match function:
        case Function.HOUR:
            result = hour
        case Function.WEEKDAY:
            result = weekday
        case Function.IS_WEEKEND:
            result = (weekday >= _SATURDAY).astype(np.int64)
        case _:
            result = (hour <= _LAST_NIGHT_HOUR).astype(np.int64)
    return pa.array(result, mask=null)
