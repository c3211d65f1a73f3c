from __future__ import annotations

import numpy as np
import pytest

from training.evaluation.ranking import card_precision


def slow(rows: list[tuple[int, int, int, float]], k: int) -> float:
    """The definition again: lists and loops. Scores of cards must differ."""
    blocked: list[int] = []
    shares = []
    for day in sorted({row[0] for row in rows}):
        of_day = [row for row in rows if row[0] == day and row[1] not in blocked]
        cards = {row[1] for row in of_day}
        ranked = sorted(cards, key=lambda card: -max(r[3] for r in of_day if r[1] == card))[:k]
        found = [card for card in ranked if any(r[2] for r in of_day if r[1] == card)]
        shares.append(len(found) / k)
        blocked += found
    return sum(shares) / len(shares)


def precision(rows: list[tuple[int, int, int, float]], k: int) -> float:
    days, cards, fraud, scores = (np.array(column) for column in zip(*rows, strict=True))
    return card_precision(days, cards, fraud, scores, k)


def test_a_card_is_as_suspicious_as_its_worst_row_and_defrauded_by_any() -> None:
    rows = [(1, 10, 0, 0.9), (1, 10, 1, 0.1), (1, 20, 0, 0.5), (1, 30, 1, 0.4)]
    assert precision(rows, k=1) == 1.0
    assert precision(rows, k=2) == 0.5
    assert precision(rows, k=3) == pytest.approx(2 / 3)


def test_a_card_that_was_found_is_blocked_and_one_that_was_missed_is_not() -> None:
    first = [(1, 10, 1, 0.9), (1, 20, 1, 0.1), (1, 30, 0, 0.8)]
    second = [(2, 10, 1, 0.9), (2, 20, 1, 0.8), (2, 30, 0, 0.1)]
    # Day 1 finds card 10, day 2 without it finds card 20.
    assert precision(first + second, k=1) == 1.0
    # An honest card among the first k stays.
    assert precision([(1, 30, 0, 0.9), (2, 30, 1, 0.9)], k=1) == 0.5


def test_the_share_is_of_k_even_where_fewer_cards_paid() -> None:
    assert precision([(1, 10, 1, 0.9)], k=4) == 0.25


def test_it_equals_the_definition_on_random_days() -> None:
    rng = np.random.default_rng(5)
    scores = rng.permutation(600) / 600
    rows = [
        (int(rng.integers(7)), int(rng.integers(60)), int(rng.random() < 0.1), float(score))
        for score in scores
    ]
    for k in (1, 5, 20):
        assert precision(rows, k) == pytest.approx(slow(rows, k))
