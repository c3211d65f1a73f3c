"""Choosing where to act by what acting and not acting cost, not by a probability of one half."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.evaluation.metrics import Floats


@dataclass(frozen=True)
class Costs:
    """What decisions cost, in minor units of the reference currency.

    Attributes:
        review_minor: of looking at one case.
        loss_share: of a missed event's amount that is lost.
        caught_share: of an event's amount that is saved when it is looked at in time.
    """

    review_minor: float
    loss_share: float = 1.0
    caught_share: float = 1.0


@dataclass(frozen=True)
class OperatingPoint:
    """Where to act, and what that costs.

    Attributes:
        threshold: act from this score on; infinity: never.
        cost_minor: a row, at the threshold.
        cost_never_minor: a row, if nothing is looked at.
        reviewed_share: of the rows that are looked at.
        recall, precision: of the events, by number.
    """

    threshold: float
    cost_minor: float
    cost_never_minor: float
    reviewed_share: float
    recall: float
    precision: float


def cheapest(target: Floats, score: Floats, amount_minor: Floats, costs: Costs) -> OperatingPoint:
    """The threshold with the least cost on these rows: choose it on rows kept for that.

    Args:
        target: (n,) 0 or 1.
        score: (n,) higher is likelier.
        amount_minor: (n,) at stake, reference currency.
    """
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    saved = np.cumsum((target * amount_minor)[order])[ends] * costs.loss_share * costs.caught_share
    cost = costs.review_minor * (ends + 1) - saved
    best = int(np.argmin(cost))
    threshold = float(score[order][ends[best]]) if cost[best] < 0.0 else float("inf")
    return at_threshold(target, score, amount_minor, costs, threshold)


def at_threshold(
    target: Floats, score: Floats, amount_minor: Floats, costs: Costs, threshold: float
) -> OperatingPoint:
    """What acting from a threshold on costs on these rows.

    >>> found = at_threshold(
    ...     np.array([1.0, 0.0]), np.array([0.9, 0.1]), np.array([500.0, 100.0]), Costs(50), 0.5
    ... )
    >>> found.cost_minor, found.cost_never_minor, found.recall
    (25.0, 250.0, 1.0)
    """
    looked = score >= threshold
    lost = target * amount_minor * costs.loss_share
    total = (
        costs.review_minor * looked.sum() + lost.sum() - (lost * looked).sum() * costs.caught_share
    )
    hits, events = float((target * looked).sum()), float(target.sum())
    return OperatingPoint(
        threshold=threshold,
        cost_minor=float(total) / len(target),
        cost_never_minor=float(lost.sum()) / len(target),
        reviewed_share=float(looked.mean()),
        recall=hits / events if events else float("nan"),
        precision=hits / float(looked.sum()) if looked.any() else float("nan"),
    )
