from __future__ import annotations

import numpy as np
import pytest

from training.evaluation.cost import Costs, at_threshold, cheapest


def test_the_cheapest_threshold_is_the_cheapest() -> None:
    rng = np.random.default_rng(1)
    score = np.round(rng.random(500), 2)
    target = (rng.random(500) < score**3).astype(float)
    amount = rng.integers(1_000, 50_000, 500).astype(float)
    costs = Costs(review_minor=2_500, caught_share=0.9)
    found = cheapest(target, score, amount, costs)
    everywhere = [
        at_threshold(target, score, amount, costs, threshold).cost_minor
        for threshold in [*np.unique(score), np.inf]
    ]
    assert found.cost_minor == pytest.approx(min(everywhere))
    assert found.cost_minor < found.cost_never_minor
    assert 0.0 < found.reviewed_share < 1.0


def test_where_looking_never_pays_nothing_is_looked_at() -> None:
    found = cheapest(np.array([1.0, 0.0]), np.array([0.2, 0.1]), np.array([10.0, 10.0]), Costs(50))
    assert found.threshold == np.inf
    assert found.cost_minor == found.cost_never_minor == 5.0
    assert found.recall == 0.0


def test_a_dearer_review_looks_at_less() -> None:
    rng = np.random.default_rng(2)
    score = rng.random(2_000)
    target = (rng.random(2_000) < score**4).astype(float)
    amount = np.full(2_000, 10_000.0)
    shares = [
        cheapest(target, score, amount, Costs(fee)).reviewed_share for fee in (100, 2_000, 8_000)
    ]
    assert shares[0] > shares[1] > shares[2]
