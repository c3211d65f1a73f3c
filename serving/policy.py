"""From scores to decisions: what a policy makes of the numbers of a request."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from feature_repo.contracts.errors import DaimaError
from serving.messages import Decision

# The number of a model that its rules look at.
Number = Literal["probability", "prediction", "score"]


class PolicyError(DaimaError):
    """A policy does not say what it must; the one before it stays."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Which requests a rule is for, and what it does: its decisions, made once.

    Attributes:
        corridors: what fits a corridor; None: any, also an unknown one.
        start, below: amounts in minor units; None: any, also an unknown one.
        steps: (threshold, decision), the strictest first.
        otherwise: below all thresholds.
        missing: where there is no value.
    """

    corridors: re.Pattern[str] | None
    start: int | None
    below: float
    steps: tuple[tuple[float, Decision], ...]
    otherwise: Decision
    missing: Decision

    def fits(self, corridor: str | None, amount_minor: int | None) -> bool:
        """Whether it is for a request: a condition on what is unknown does not hold."""
        if self.start is not None and (
            amount_minor is None or not self.start <= amount_minor < self.below
        ):
            return False
        return self.corridors is None or (
            corridor is not None and self.corridors.fullmatch(corridor) is not None
        )

    def decide(self, value: float | None) -> Decision:
        """The decision on a value; NaN counts as missing."""
        if value is None or math.isnan(value):
            return self.missing
        for threshold, decision in self.steps:
            if value >= threshold:
                return decision
        return self.otherwise


@dataclass(frozen=True, slots=True)
class ModelPolicy:
    """One model's rules, and which of its numbers they look at."""

    value: Number
    rules: tuple[Rule, ...]

    def decide(
        self, number: float | None, corridor: str | None, amount_minor: int | None
    ) -> Decision:
        """The decision on a number of the kind `value`; under 1 µs.

        Args:
            number: None where the model has no such number.
            corridor: of the features used, None if unknown.
            amount_minor: of the request's context, None if it has none.
        """
        for rule in self.rules:
            if rule.fits(corridor, amount_minor):
                return rule.decide(number)
        raise PolicyError("rules", expected="a last rule for every request")  # parse_policy saw to


@dataclass(frozen=True)
class Policy:
    """The rules of every model that has some; never changed, replaced as a whole.

    Attributes:
        models: registered model -> its rules.
        fingerprint: of the file, to tell which policy decided.
    """

    models: dict[str, ModelPolicy]
    fingerprint: str

    def decisions(
        self,
        model: str,
        corridors: Sequence[str | None],
        amount_minor: int | None,
        *,
        scores: Sequence[float],
        predictions: Sequence[float],
        probabilities: Sequence[float] | None,
    ) -> list[Decision] | None:
        """The decisions on n rows that one version scored; None where the model has no rules.

        Args:
            model: its registered name.
            corridors: (n) of the features used.
            amount_minor: of the request's context.
            scores, predictions, probabilities: (n) numbers; None: the model has no probabilities.
        """
        rules = self.models.get(model)
        if rules is None:
            return None
        if rules.value == "probability":
            values: Sequence[float | None] = probabilities or [None] * len(scores)
        else:
            values = scores if rules.value == "score" else predictions
        decide = rules.decide
        return [
            decide(value, corridor, amount_minor)
            for value, corridor in zip(values, corridors, strict=True)
        ]
