"""One customer's features as read: values, what became of each, and how old they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from feature_repo.contracts.embeddings import OTHER_VERSION

Value = int | float | str | bool | list[float] | None


class Status(StrEnum):
    """Feast's names of what became of a value, and one more, of predictions alone: a vector of
    another embedding version than the model was trained on, which it is not fed."""

    PRESENT = "PRESENT"
    NULL_VALUE = "NULL_VALUE"
    NOT_FOUND = "NOT_FOUND"
    OUTSIDE_MAX_AGE = "OUTSIDE_MAX_AGE"
    OTHER_VERSION = OTHER_VERSION


@dataclass
class FeatureRow:
    """One customer's features.

    Attributes:
        values: `view:feature` -> value; None unless its status is PRESENT, but for stream
            features of a key without events: those are what no events amount to (counts 0).
        statuses: `view:feature` -> status.
        views: view -> status of its row; NULL_VALUE where it cannot be read.
        ages_s: view -> seconds from its event time to the instant asked for, where it has one.
        corridor: the corridor whose features these are, if one is known.
        unreadable: `view:feature` whose bytes in the store are no value of its type; NULL_VALUE.
    """

    values: dict[str, Value] = field(default_factory=dict)
    statuses: dict[str, Status] = field(default_factory=dict)
    views: dict[str, Status] = field(default_factory=dict)
    ages_s: dict[str, float] = field(default_factory=dict)
    corridor: str | None = None
    unreadable: list[str] = field(default_factory=list)

    def settle(self, refs: Iterable[str], outcome: Status) -> None:
        """Give features a status and no value."""
        for ref in refs:
            self.values[ref] = None
            self.statuses[ref] = outcome

    def add(self, part: FeatureRow) -> None:
        """Take over what was read of another entity."""
        self.values.update(part.values)
        self.statuses.update(part.statuses)
        self.views.update(part.views)
        self.ages_s.update(part.ages_s)
        self.unreadable.extend(part.unreadable)
