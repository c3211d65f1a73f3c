"""Turns the definitions of an entity into tables: filters and columns into bits, features into
rows of what a walk gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt

from feature_repo.contracts.definition import (
    ALL_EVENTS,
    Derived,
    Feature,
    Filter,
    Lifetime,
    Session,
    Sliding,
)
from feature_repo.contracts.errors import DefinitionError
from feature_repo.contracts.events import EventType
from feature_repo.contracts.feature_set import EntityKey, FeatureSet, View
from feature_repo.engine import opcodes as op
from feature_repo.engine.stored import Stored, reach_us, store_columns, store_tiles
from feature_repo.engine.walk import Places, Walk

_US = timedelta(microseconds=1)
MAX_BITS = 62
NARROW_BITS = 16
Table = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Derivation:
    """A derived feature with the names of its inputs as outputs."""

    name: str
    function: str
    inputs: tuple[str, ...]


class Compiler:
    """Collects the features of one entity, then lays out the tables."""

    def __init__(self, feature_set: FeatureSet, entity: EntityKey) -> None:
        self.entity = entity
        self._lateness_us = feature_set.lateness // _US
        self._features: list[tuple[str, Feature]] = []
        self.filters: list[Filter] = []
        self.stored: list[Stored] = []
        self.used_columns: set[str] = set()
        self.places = Places()
        self.derivations: list[Derivation] = []

    def add(self, view: View, feature: Feature | Derived) -> None:
        """Take a feature in."""
        name = view.output_name(feature)
        if isinstance(feature, Derived):
            inputs = tuple(view.prefix + of if of != "as_of" else of for of in feature.of)
            self.derivations.append(Derivation(name, str(feature.function), inputs))
            return
        self._features.append((name, feature))
        if feature.events not in self.filters:
            self.filters.append(feature.events)
        self.used_columns.update(c.column for c in feature.events.where)
        if feature.column:
            self.used_columns.add(feature.column)

    def finish(self) -> dict[str, Table]:
        """Lay out the tables, after every feature has been added."""
        sessions = [f for _, f in self._features if isinstance(f.window, Session)]
        if sessions and ALL_EVENTS not in self.filters:
            self.filters.append(ALL_EVENTS)
        features = [feature for _, feature in self._features]
        self.stored = store_columns(features) if self.entity.hop is None else store_tiles(features)
        labels = any(EventType.LABEL in f.event_types for f in self.filters)
        self._label = -1
        if labels:
            self.stored.append(Stored("known", (), reach_us=op.FOREVER))
        if self.entity.hop is None:
            self.stored.append(Stored("ordinal", (), reach_us=0))
        bits = len(self.filters) + len(self.stored) + labels
        if bits > MAX_BITS:
            raise DefinitionError(
                f"features of {self.entity.name}",
                f"{bits} different filters and columns",
                f"at most {MAX_BITS}",
                "split them over two entities of the same columns",
            )
        if labels:
            self._label = bits - 1
        rows = self._tables()
        constants = np.zeros(op.K_WIDTH, np.int64)
        constants[op.K_SESSION_BIT] = 1 << self.filters.index(ALL_EVENTS) if sessions else 0
        constants[op.K_LABEL_BIT] = 1 << self._label if labels else 0
        constants[op.K_GAP] = sessions[0].window.gap // _US if sessions else -1  # type: ignore[union-attr]
        constants[op.K_BACK] = max((f.window.back for f in sessions), default=-1)  # type: ignore[union-attr]
        constants[op.K_LATENESS] = self._lateness_us
        constants[op.K_REACH] = max(
            (reach_us(f) for _, f in self._features if not isinstance(f.window, Session)),
            default=0,
        )
        constants[op.K_HOP] = 0 if self.entity.hop is None else self.entity.hop // _US
        constants[op.K_KNOWN] = self._stored_kind("known")
        constants[op.K_ORDINAL] = self._stored_kind("ordinal")
        constants[op.K_COLUMNS] = len(self.stored)
        constants[op.K_SETTLED] = self._settled_words
        constants[op.K_WIDE] = bits > NARROW_BITS
        constants[op.K_FILTERS] = len(self.filters)
        columns = np.zeros((len(self.stored), op.C_WIDTH), np.int64)
        for at, stored in enumerate(self.stored):
            columns[at] = [
                1 << (len(self.filters) + at),
                stored.reach_us,
                stored.back,
                stored.merge,
            ]
        return {**rows, "columns": columns, "constants": constants}

    def _stored_kind(self, kind: str) -> int:
        return next((at for at, s in enumerate(self.stored) if s.kind == kind), -1)

    def _tables(self) -> dict[str, Table]:
        passes: list[list[int]] = []
        atoms: list[list[int]] = []
        rows: list[list[int]] = []
        settled: list[list[int]] = []
        keeps: list[list[int]] = []
        self._settled_words = 0
        self._outputs: dict[str, list[int]] = {}
        by_pass: dict[tuple[int, int], list[tuple[int, str, Feature]]] = {}
        for name, feature in self._features:
            window, delay = feature.window, feature.label_delay // _US
            back = window.back if isinstance(window, Session) else op.NOT_A_SESSION
            length = window.length // _US if isinstance(window, Sliding) else op.FOREVER
            by_pass.setdefault((back, delay), []).append((length, name, feature))
        for (back, delay), members in sorted(by_pass.items()):
            layout = Walk(
                self.filters, self.stored, self.entity.hop is not None, self.places, len(atoms)
            )
            first = len(rows)
            for length, name, feature in sorted(members, key=lambda member: member[0]):
                row = layout.feature(name, feature, length)
                if isinstance(feature.window, Lifetime):
                    row[op.F_SETTLED] = self._settle(feature, row, layout, settled, keeps)
                rows.append(row)
            atoms += layout.atoms
            guard = 0
            for atom in layout.atoms:
                need = atom[op.A_NEED]
                guard |= 1 << (need.bit_length() - 1)  # the rarest: a column, if there is one
            passes.append(
                [back, delay, first, len(rows), len(atoms) - len(layout.atoms), len(atoms), guard]
            )
        return {
            "passes": _table(passes, op.P_WIDTH),
            "atoms": _table(atoms, op.A_WIDTH),
            "features": _table(rows, op.F_WIDTH),
            "settled": _table(settled, op.S_WIDTH),
            "keeps": _table(keeps, 5),
        }

    def _settle(
        self,
        feature: Feature,
        row: list[int],
        layout: Walk,
        settled: list[list[int]],
        keeps: list[list[int]],
    ) -> int:
        """Where a lifetime keeps what has left the retained events; -1 if nothing leaves."""
        if row[op.F_GIVE] == op.GIVE_LANE:
            what = [op.COUNT, 1 << row[op.F_BIT], -1, -1]
        else:
            atom = layout.atoms[row[op.F_ATOM] - layout.first]
            what = [atom[op.A_OP], atom[op.A_NEED], atom[op.A_COLUMN], atom[op.A_SHIFT]]
        if what[0] == op.SEQUENCE:
            delay = feature.label_delay // _US
            keeps.append([what[1], feature.n, delay, what[2], what[3]])
            return -1
        at = self._settled_words
        settled.append([*what, at])
        self._settled_words += _SETTLED_WORDS.get(what[0], 3)
        return at


_SETTLED_WORDS = {op.COUNT: 1, op.SUM_I: 2, op.MIN_I: 2, op.MIN_F: 2, op.MAX_I: 2, op.MAX_F: 2}


def _table(rows: list[list[int]], width: int) -> Table:
    return np.array(rows, np.int64).reshape(len(rows), width)
