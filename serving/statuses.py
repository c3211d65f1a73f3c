"""What became of each feature of a row, shared by all rows that fared alike.

Rows differ in their values, hardly in which of them are missing: the mapping is made once a
pattern, its JSON too, and answers carry a reference to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from serving import stored_kernel as kernel
from serving.feature_row import Status

# Beside the kernels' own marks: set once a row is decoded.
OTHER_VERSION = 5
_OF_MARK = {
    kernel.PRESENT: Status.PRESENT,
    kernel.NULL: Status.NULL_VALUE,
    kernel.NOT_FOUND: Status.NOT_FOUND,
    kernel.EXPIRED: Status.OUTSIDE_MAX_AGE,
    kernel.UNREADABLE: Status.NULL_VALUE,
    OTHER_VERSION: Status.OTHER_VERSION,
}
# Patterns are few; bytes out of a store that somebody else fills may make them many.
_MOST_PATTERNS = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Statuses:
    """Status of each feature read, in the model's order. Equal rows share one object.

    Attributes:
        by_ref: `view:feature` -> status. Shared: not to be changed.
        json: the same, encoded.
        views: view -> status of its row.
        unreadable: features whose bytes in the store are no value of theirs; NULL_VALUE.
    """

    by_ref: Mapping[str, Status]
    json: msgspec.Raw = field(repr=False)
    views: Mapping[str, Status] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        by_ref: Mapping[str, Status],
        views: Mapping[str, Status] | None = None,
        unreadable: tuple[str, ...] = (),
    ) -> Statuses:
        """Encode a mapping once."""
        return cls(by_ref, msgspec.Raw(msgspec.json.encode(by_ref)), views or {}, unreadable)


class StatusTable:
    """From the kernels' marks to statuses.

    Args:
        refs: the features, in the order of their marks.
        views: names of views with their place among the marks after those, and among ages.
    """

    def __init__(self, refs: Sequence[str], views: Sequence[tuple[str, int]]) -> None:
        self._refs = refs
        self._views = views
        self._known: dict[bytes, Statuses] = {}

    def rows(self, marks: Any, ages_us: Any) -> tuple[list[Statuses], list[dict[str, float]]]:
        """Statuses and ages of each row.

        Args:
            marks: (n, refs + views) uint8.
            ages_us: (n, views) int64, `stored_kernel.NO_AGE` where there is none.

        Returns:
            (n) statuses; (n) view -> age in seconds.
        """
        width = marks.shape[1]
        raw: bytes = marks.tobytes()
        known, views, none = self._known, self._views, kernel.NO_AGE
        statuses = []
        for begin in range(0, width * len(marks), width):
            key = raw[begin : begin + width]
            statuses.append(known.get(key) or self._learn(key))
        ages = [
            {name: row[place] / 1e6 for name, place in views if row[place] != none}
            for row in ages_us.tolist()
        ]
        return statuses, ages

    def _learn(self, marks: bytes) -> Statuses:
        of_refs, of_views = marks[: len(self._refs)], marks[len(self._refs) :]
        made = Statuses.of(
            {ref: _OF_MARK[mark] for ref, mark in zip(self._refs, of_refs, strict=True)},
            {name: _OF_MARK[of_views[place]] for name, place in self._views},
            tuple(
                ref
                for ref, mark in zip(self._refs, of_refs, strict=True)
                if mark == kernel.UNREADABLE
            ),
        )
        if len(self._known) >= _MOST_PATTERNS:
            self._known.clear()
        self._known[marks] = made
        return made
