"""Who answers whom: the line of models of one moment, and each customer's place in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import mmh3

from feature_repo.contracts.errors import ModelError
from serving.settings import CHAMPION

if TYPE_CHECKING:
    from serving.models import ServedModel

CHALLENGER = "challenger"
SHADOW = "shadow"
_HASHES = 1 << 32
Value = TypeVar("Value")


class UnknownModelError(ModelError):
    """A request names a model that does not serve."""


class Slot(NamedTuple):
    """A place that a version can hold: an alias of a registered model."""

    name: str
    alias: str


@dataclass(frozen=True)
class Bounds:
    """What a challenger may not pass; one that does is rolled back.

    Attributes:
        error_rate: share of the requests it has a part in that it may fail.
        p99: the time that 99 of 100 of these requests keep within.
    """

    error_rate: float = 0.01
    p99: timedelta = timedelta(milliseconds=50)


@dataclass(frozen=True)
class Challenger:
    """A version that answers a share of the customers in the champion's place."""

    model: ServedModel
    share: float
    bounds: Bounds = Bounds()


@dataclass(frozen=True)
class Refusal:
    """A version that an alias names and that does not serve, and why.

    It is tried again from `retry_at`, and at once when the feature catalogue has changed.
    """

    version: str
    reason: str
    retry_at: datetime


@dataclass(frozen=True)
class Line:
    """What serves and what is refused at one moment; replaced as a whole, never changed.

    A request takes the line once and keeps it: the next look may find another.

    Attributes:
        models: name -> champion.
        challengers: name -> the version that answers a share of the customers.
        shadows: name -> the version that is scored beside them and never answers.
        refused: what an alias names and does not serve.
        registry_error: why the registry does not answer; None if it does.
        alias: the alias of the champions.
    """

    models: dict[str, ServedModel] = field(default_factory=dict)
    challengers: dict[str, Challenger] = field(default_factory=dict)
    shadows: dict[str, ServedModel] = field(default_factory=dict)
    refused: dict[Slot, Refusal] = field(default_factory=dict)
    registry_error: str | None = None
    alias: str = CHAMPION

    def get(self, name: str) -> ServedModel:
        """The champion of a model.

        Raises:
            UnknownModelError: there is none; the message lists those that there are.
        """
        model = self.models.get(name)
        if model is not None:
            return model
        refusal = self.refused.get(Slot(name, self.alias))
        if refusal is not None:
            action = f"version {refusal.version} was refused: {refusal.reason}"
        elif self.registry_error is not None:
            action = f"the registry does not answer: {self.registry_error}"
        else:
            action = f"register one and promote it to @{self.alias}; it serves within seconds"
        raise UnknownModelError("model", name, f"one of {sorted(self.models)}", action)

    def route(self, name: str, customer: str) -> ServedModel:
        """Who answers a customer: always the same version while share and versions stay.

        A greater share keeps the customers that a smaller one had.

        Raises:
            UnknownModelError: no version of that name serves.
        """
        champion = self.get(name)
        challenger = self.challengers.get(name)
        if challenger is None or not takes_part(name, customer, challenger.share):
            return champion
        return challenger.model

    def split(self, name: str, customers: Sequence[str]) -> list[tuple[ServedModel, list[int]]]:
        """The customers of a request by who answers them: (version, places in `customers`).

        Raises:
            UnknownModelError: no version of that name serves.
        """
        champion = self.get(name)
        challenger = self.challengers.get(name)
        if challenger is None:
            return [(champion, list(range(len(customers))))]
        places: tuple[list[int], list[int]] = ([], [])
        share = challenger.share
        for place, customer in enumerate(customers):
            places[takes_part(name, customer, share)].append(place)
        parts = zip((champion, challenger.model), places, strict=True)
        return [(model, part) for model, part in parts if part]

    def served(self) -> Iterator[ServedModel]:
        """Every version that is scored: champions, challengers, shadows."""
        yield from self.models.values()
        yield from (challenger.model for challenger in self.challengers.values())
        yield from self.shadows.values()

    def share_of(self, model: ServedModel) -> float:
        """The share of the customers whom a version of this line answers."""
        challenger = self.challengers.get(model.name)
        share = 0.0 if challenger is None else challenger.share
        return {CHALLENGER: share, SHADOW: 0.0}.get(model.alias, 1.0 - share)

    def without(self, slot: Slot, version: str) -> Line:
        """The line without that version as challenger or shadow; itself where it is neither."""
        challenger = self.challengers.get(slot.name)
        if slot.alias == CHALLENGER and challenger and challenger.model.version == version:
            return replace(self, challengers=_less(self.challengers, slot.name))
        shadow = self.shadows.get(slot.name)
        if slot.alias == SHADOW and shadow and shadow.version == version:
            return replace(self, shadows=_less(self.shadows, slot.name))
        return self


def takes_part(name: str, customer: str, share: float) -> bool:
    """Whether a customer is among a share of a model's customers.

    The model's name is hashed along: another model's challenger gets other customers.

    >>> [takes_part("m", "c1", share) for share in (0.0, 1.0)]
    [False, True]
    """
    return mmh3.hash(f"{name}\0{customer}", signed=False) < share * _HASHES


def _less(mapping: dict[str, Value], name: str) -> dict[str, Value]:
    return {key: value for key, value in mapping.items() if key != name}
