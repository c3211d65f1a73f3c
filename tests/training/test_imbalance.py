"""Rarity is treated as the validation part says."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np

from feature_repo.scoring.scorers import Trees
from training.imbalance import Rows, measured_treatment

ROWS = np.random.default_rng(1).normal(size=(4_000, 3))
TARGET = (ROWS[:, 0] + np.random.default_rng(2).normal(size=4_000) > 2.8).astype(float)
TRAIN = np.arange(3_000)
LEARNT: dict[str, Any] = {"objective": "binary", "verbosity": -1, "num_threads": 1}


class Learning:
    """Trains, and notes what it was told."""

    def __init__(self, rounds: dict[int, int]) -> None:
        self.told: list[tuple[Rows, dict[str, object]]] = []
        self._rounds = rounds

    def __call__(self, rows: Rows, changes: dict[str, object]) -> Trees:
        rounds = self._rounds.get(len(self.told), 20)
        self.told.append((rows, changes))
        data = lightgbm.Dataset(ROWS[rows], TARGET[rows])
        return Trees(lightgbm.train(LEARNT | changes, data, num_boost_round=rounds))


def test_each_treatment_is_what_it_says() -> None:
    learn = Learning({})
    validation = ROWS[3_000:], TARGET[3_000:]
    _, table = measured_treatment(
        learn, ("none", "weighted", "undersampled"), TRAIN, TARGET, validation,
        kept_per_event=5.0, seed=3,
    )  # fmt: skip
    (plain, _), (same, weighted), (fewer, _) = learn.told
    events = int(TARGET[TRAIN].sum())
    assert plain.tolist() == same.tolist() == TRAIN.tolist()
    assert weighted == {"scale_pos_weight": (3_000 - events) / events}
    assert TARGET[fewer].sum() == events
    assert len(fewer) == 6 * events
    assert set(fewer) <= set(TRAIN)
    assert table["treatment"].to_list() == ["none", "weighted", "undersampled"]
    assert table["chosen"].sum() == 1


def test_the_best_on_the_validation_part_is_taken() -> None:
    # The first stops after one round, and cannot be as good.
    trees, table = measured_treatment(
        Learning({0: 1}), ("none", "weighted"), TRAIN, TARGET, (ROWS[3_000:], TARGET[3_000:]),
        kept_per_event=5.0, seed=3,
    )  # fmt: skip
    best = table.sort("average_precision", descending=True)
    assert best["chosen"].to_list() == [True, False]
    assert best["treatment"][0] == "weighted"
    assert trees.booster.num_trees() == 20


def test_without_a_gain_the_first_is_kept() -> None:
    _, table = measured_treatment(
        Learning({}), ("none", "none"), TRAIN, TARGET, (ROWS[3_000:], TARGET[3_000:]),
        kept_per_event=5.0, seed=3,
    )  # fmt: skip
    assert table["chosen"].to_list() == [True, False]
