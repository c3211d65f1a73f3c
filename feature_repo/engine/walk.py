"""One backward scan over a key's events: its atoms, and how features read their values off them.

An *atom* is one running value of the scan (a sum, a maximum); features of one filter, column and
kind share it, whatever their windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from feature_repo.contracts.columns import COLUMN_DTYPES
from feature_repo.contracts.definition import (
    ALL_EVENTS,
    Aggregate,
    Dtype,
    Feature,
    Filter,
    Session,
    Sliding,
)
from feature_repo.contracts.definition_types import dtype_of
from feature_repo.engine import opcodes as op
from feature_repo.engine.stored import Stored, place_of, same_tile, tile_column, tile_parts


@dataclass
class Places:
    """Where outputs go; filled as features are laid out.

    `slots`: name, dtype, whether a text, place, flag's place, n, default; see `program.Slot`.
    """

    integers: int = 0
    floats: int = 0
    flags: int = 0
    sets: int = 0
    slots: list[tuple[str, Dtype, bool, int, int, int, float | None]] = field(default_factory=list)


_INT_FLOAT = {
    Aggregate.SUM: (op.SUM_I, op.SUM_F, op.GIVE_SUM_I, op.GIVE_SUM_F),
    Aggregate.MEAN: (op.SUM_I, op.SUM_F, op.GIVE_MEAN_I, op.GIVE_MEAN_F),
    Aggregate.RATE: (op.SUM_I, op.SUM_F, op.GIVE_RATE_I, op.GIVE_RATE_F),
    Aggregate.MIN: (op.MIN_I, op.MIN_F, op.GIVE_MIN_I, op.GIVE_MIN_F),
    Aggregate.MAX: (op.MAX_I, op.MAX_F, op.GIVE_MAX_I, op.GIVE_MAX_F),
    Aggregate.STD: (op.MOMENTS_I, op.MOMENTS_F, op.GIVE_STD, op.GIVE_STD),
    Aggregate.FIRST: (op.OLDEST, op.OLDEST, op.GIVE_VALUE, op.GIVE_FLOAT),
    Aggregate.LAST: (op.LATEST, op.LATEST, op.GIVE_VALUE, op.GIVE_FLOAT),
}
_OF_TIMES = {
    Aggregate.TIME_SINCE: op.GIVE_SINCE,
    Aggregate.START: op.GIVE_START,
    Aggregate.DURATION: op.GIVE_DURATION,
}

# Of no events, counts and sums are 0.
_NEVER_NULL = {op.GIVE_LANE, op.GIVE_COUNT, op.GIVE_SUM_I, op.GIVE_SUM_F}


class Walk:
    """The atoms and features of one scan."""

    def __init__(
        self,
        filters: Sequence[Filter],
        stored: Sequence[Stored],
        tiled: bool,
        places: Places,
        first: int,
    ) -> None:
        self._filters = filters
        self._stored = stored
        self._tiled = tiled
        self._places = places
        self.first = first
        self.atoms: list[list[int]] = []

    def _atom(self, kind: int, need: int, column: int, shift: int = -1, *rest: int) -> int:
        """The atom's index, shared by features that need the same."""
        whose = [*rest, *[-1] * (3 - len(rest))]
        atom = [kind, need, column, shift, *whose]
        if kind == op.DISTINCT:
            for at, other in enumerate(self.atoms):
                if other[:4] == atom[:4]:
                    return self.first + at
            atom[op.A_SET] = self._places.sets
            self._places.sets += 1
        elif atom in self.atoms:
            return self.first + self.atoms.index(atom)
        self.atoms.append(atom)
        return self.first + len(self.atoms) - 1

    def feature(self, name: str, feature: Feature, window: int) -> list[int]:
        """A row of the table of features; allots the feature's place among the outputs."""
        places = self._places
        dtype = dtype_of(feature)
        text = dtype in (Dtype.STRING, Dtype.STRING_LIST)
        if dtype is Dtype.FLOAT64:
            at = places.floats
            places.floats += 1
        else:
            at = places.integers
            places.integers += 1 + feature.n
        give, atom, atom2, bit = self._how(feature, at)
        ok = -1
        if give not in _NEVER_NULL:
            ok = places.flags
            places.flags += 1
        places.slots.append((name, dtype, text, at, ok, feature.n, feature.default))
        divisor = window if isinstance(feature.window, Sliding) else 0
        if give == op.GIVE_OF_SESSION:
            divisor = _OF_TIMES[feature.aggregate]
        return [give, window, atom, atom2, bit, at, ok, -1, divisor]

    def _how(  # noqa: PLR0911 - a case a kind
        self, feature: Feature, at: int
    ) -> tuple[int, int, int, int]:
        """(how the value is given, its atom, a second atom or -1, its filter's bit)."""
        if self._tiled:
            return self._how_tiled(feature)
        bit = self._filters.index(feature.events)
        need = 1 << bit
        of_session = isinstance(feature.window, Session) and feature.events == ALL_EVENTS
        if feature.aggregate in _OF_TIMES and of_session:
            return op.GIVE_OF_SESSION, -1, -1, bit
        if feature.aggregate in _OF_TIMES:
            return _OF_TIMES[feature.aggregate], self._atom(op.TIMES, need, -1), -1, bit
        if feature.column is None:
            if feature.aggregate is Aggregate.COUNT:
                return op.GIVE_LANE, -1, -1, bit
            return op.GIVE_RATE_I, self._atom(op.COUNT, need, -1), -1, bit
        column, shift = place_of(self._stored, feature.column)
        need |= 1 << (len(self._filters) + column)
        is_float = COLUMN_DTYPES[feature.column] is Dtype.FLOAT64
        match feature.aggregate:
            case Aggregate.COUNT:
                return op.GIVE_COUNT, self._atom(op.COUNT, need, column, shift), -1, bit
            case Aggregate.DISTINCT_COUNT:
                return op.GIVE_COUNT, self._atom(op.DISTINCT, need, column, shift), -1, bit
            case Aggregate.LAST_N:
                atom = self._atom(op.SEQUENCE, need, column, shift, -1, at, feature.n)
                return op.GIVE_SEQUENCE, atom, -1, bit
        as_int, as_float, give_int, give_float = _INT_FLOAT[feature.aggregate]
        atom = self._atom(as_float if is_float else as_int, need, column, shift)
        return give_float if is_float else give_int, atom, -1, bit

    def _how_tiled(self, feature: Feature) -> tuple[int, int, int, int]:
        atoms = []
        for part in tile_parts(feature.aggregate):
            wanted = tile_column(feature, part)
            column = next(at for at, stored in enumerate(self._stored) if same_tile(stored, wanted))
            need = 1 << (len(self._filters) + column)
            is_float = self._stored[column].kind == "float"
            kinds = _INT_FLOAT[Aggregate.SUM if part is Aggregate.COUNT else part]
            atoms.append((self._atom(kinds[is_float], need, column), kinds[2 + is_float], is_float))
        atom, give, is_float = atoms[0]
        if feature.aggregate is Aggregate.MEAN:
            # The divisor's column of the row says whether the sum is a float.
            return op.GIVE_QUOTIENT, atom, atoms[1][0], int(is_float)
        if feature.aggregate is Aggregate.RATE:
            return (op.GIVE_RATE_F if is_float else op.GIVE_RATE_I), atom, -1, -1
        return give, atom, -1, -1
