"""Who may serve: better, equal and worse candidates, and those that fail some customers only."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from training.evaluation.gate import (
    HeldOut,
    Tolerance,
    beats_baseline,
    holds_against_champion,
)
from training.evaluation.metrics import AVERAGE_PRECISION, RMSE, Floats
from training.evaluation.slices import new_customers

ROWS = 6_000
TOLERANCE = Tolerance(overall=0.01, in_a_slice=0.10)


def part(noise: float | Floats, *, seed: int = 1) -> HeldOut:
    rng = np.random.default_rng(seed)
    target = rng.normal(size=ROWS)
    corridor = rng.choice(["GB-NG", "GB-IN", "US-MX"], ROWS, p=[0.6, 0.3, 0.1])
    clusters = rng.integers(0, 1_500, ROWS)
    return HeldOut(
        frame=pl.DataFrame({"corridor": corridor}),
        target=target,
        prediction=target + rng.normal(size=ROWS) * noise,
        baseline=np.zeros(ROWS),
        clusters=clusters,
        groups={"corridor": pl.Series(corridor)},
    )


def champions(test: HeldOut, noise: float = 0.5) -> Floats:
    return test.target + np.random.default_rng(9).normal(0, noise, ROWS)


def test_a_first_model_must_surely_beat_its_baseline() -> None:
    good = beats_baseline(RMSE, part(0.5), "mean per corridor")
    assert good.promote
    assert "beats mean per corridor's" in good.verdict
    no_better = beats_baseline(RMSE, part(1.0), "mean per corridor")
    assert not no_better.promote
    assert "does not surely beat" in no_better.verdict


@pytest.mark.parametrize(("noise", "promoted"), [(0.45, True), (0.5, True), (0.56, False)])
def test_against_a_champion(noise: float, promoted: bool) -> None:
    test = part(noise)
    decision = holds_against_champion(RMSE, test, "champion version 3", champions(test), TOLERANCE)
    assert decision.promote is promoted
    assert "champion version 3" in decision.verdict
    assert {each.name for each in decision.slices} == {
        "corridor=GB-NG", "corridor=GB-IN", "corridor=US-MX",
    }  # fmt: skip


def test_a_candidate_that_fails_one_corridor_is_rejected() -> None:
    small = part(0.0).groups["corridor"].to_numpy() == "US-MX"
    test = part(np.where(small, 0.8, 0.40))
    decision = holds_against_champion(RMSE, test, "champion version 3", champions(test), TOLERANCE)
    assert decision.ours < decision.theirs  # better over all
    assert not decision.promote
    (reason,) = decision.reasons
    assert reason.startswith("corridor=US-MX collapses")
    table = decision.table()
    assert table.filter(pl.col("slice") == "corridor=US-MX")["difference"].item() > 0.2


def test_slices_without_evidence_decide_nothing() -> None:
    rng = np.random.default_rng(4)
    target = (rng.random(ROWS) < 0.05).astype(float)
    few = np.arange(ROWS) < 300  # 15 events or so
    test = HeldOut(
        frame=pl.DataFrame(),
        target=target,
        prediction=np.where(few, 1 - target, target) + rng.random(ROWS) * 0.1,
        baseline=np.zeros(ROWS),
        clusters=np.arange(ROWS),
        groups={"channel": pl.Series(np.where(few, "web", "app"))},
        binary=True,
    )
    found = holds_against_champion(
        AVERAGE_PRECISION, test, "champion version 1", rng.random(ROWS), TOLERANCE
    )
    assert [each.name for each in found.slices] == ["channel=app"]
    assert found.promote


def test_higher_is_better_where_it_is() -> None:
    rng = np.random.default_rng(5)
    target = (rng.random(ROWS) < 0.1).astype(float)
    good, bad = target + rng.random(ROWS), target * 0.3 + rng.random(ROWS)
    test = HeldOut(pl.DataFrame(), target, bad, good, np.arange(ROWS), binary=True)
    assert not beats_baseline(AVERAGE_PRECISION, test, "the amount").promote
    decision = holds_against_champion(
        AVERAGE_PRECISION, test, "champion version 1", good, TOLERANCE
    )
    assert not decision.promote
    assert decision.reasons[0].startswith("worse by more than 1.0%")


def test_the_decision_is_kept_with_its_numbers() -> None:
    test = part(0.5)
    decision = holds_against_champion(RMSE, test, "champion version 3", champions(test), TOLERANCE)
    kept = json.loads(decision.to_json())
    assert kept["promote"] is True
    assert kept["ours"] == decision.ours
    assert len(kept["slices"]) == 3
    tags = decision.tags()
    assert tags["decision"] == "promoted"
    assert all(len(value) < 5_000 for value in tags.values())


def test_new_customers_are_a_slice() -> None:
    assert new_customers(pl.Series([3, 31, None])).to_list() == ["new", "known", None]
