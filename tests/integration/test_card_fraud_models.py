"""The card-fraud benchmark: its splits, its ratios and its models, on a small made-up world.

And the rows and frauds of the handbook's splits, on the public transactions.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from feature_repo.contracts.feature_set import load_feature_set
from tests.benchmarks.card_fraud_inputs import (
    BOOK,
    EXAMPLE,
    OURS,
    TRANSACTIONS,
    computed,
    with_ratios,
)
from tests.benchmarks.card_fraud_judge import Figures, MeanOverFolds, gain
from tests.benchmarks.card_fraud_models import (
    Boosted,
    Forest,
    as_without_thinning,
    blended,
    imbalanced,
    supervised,
    thinned,
)
from tests.benchmarks.card_fraud_split import SINGLE, TEST, TUNING, Fold, Parts, split
from training.evaluation.metrics import AVERAGE_PRECISION

START = date(2018, 7, 25)
BEGIN = datetime(2018, 6, 1)  # noqa: DTZ001 - the data's instants name no zone


def rows(*frauds: tuple[int, int], cards: int = 5, days: int = 21) -> pl.DataFrame:
    """A transaction a card and day, from START on; `frauds` are (card, day)."""
    pairs = [(card, day) for day in range(days) for card in range(cards)]
    return pl.DataFrame(
        {
            "date": [START + timedelta(days=day) for _, day in pairs],
            "card": [card for card, _ in pairs],
            "fraud": [int(pair in frauds) for pair in pairs],
        }
    )


def days_in_test(frame: pl.DataFrame, card: int) -> list[int]:
    """The days from START on which a card is in the test part."""
    test = split(frame, Fold(START)).test.filter(pl.col("card") == card)
    return [(day - START).days for day in test["date"]]


def test_a_week_trains_a_week_is_waited_a_week_judges() -> None:
    frame = rows()
    parts = split(frame, Fold(START))
    assert [(day - START).days for day in parts.train["date"].unique().sort()] == [*range(7)]
    assert [(day - START).days for day in parts.test["date"].unique().sort()] == [*range(14, 21)]
    assert parts.test.height == 5 * 7


def test_a_card_goes_once_its_fraud_is_known_and_not_earlier() -> None:
    frame = rows((0, 6), (1, 7), (2, 12), (3, 13), (4, 16))
    assert days_in_test(frame, 0) == []  # in training
    assert days_in_test(frame, 1) == [14]  # on day 7: known eight days later
    assert days_in_test(frame, 2) == [*range(14, 20)]
    assert days_in_test(frame, 3) == [*range(14, 21)]  # its label comes after the last test day
    assert days_in_test(frame, 4) == [*range(14, 21)]  # a fraud of the test itself removes nothing
    before = rows((0, 0)).with_columns(date=pl.col("date") - timedelta(days=1))
    assert days_in_test(before, 0) != []  # before training: as the handbook has it


def test_tuning_looks_at_no_row_that_is_judged() -> None:
    judged = {fold.test + timedelta(days=day) for fold in TEST for day in range(7)}
    looked_at = {fold.start + timedelta(days=day) for fold in TUNING for day in range(21)}
    assert not judged & looked_at
    # And all labels of tuning were known when the first test day began.
    assert max(looked_at) + timedelta(days=7) < min(judged) + timedelta(days=1)


def test_the_gain_draws_a_card_in_all_folds_and_mixes_no_scores() -> None:
    rng = np.random.default_rng(2)
    tests = [
        pl.DataFrame({"card": rng.integers(0, 200, 2_000), "fraud": rng.random(2_000) < 0.1}).cast(
            pl.Int64
        )
        for _ in range(2)
    ]
    truths = [test["fraud"].to_numpy() for test in tests]
    good = [truth + rng.normal(0, 0.6, 2_000) for truth in truths]
    bad = [truth + rng.normal(0, 1.2, 2_000) for truth in truths]
    found = gain(tests, good, bad, resamples=200)
    assert found.above_zero
    metric = MeanOverFolds(AVERAGE_PRECISION, np.repeat([0, 1], 2_000))
    target = np.concatenate(truths)
    mean = metric(target, np.concatenate(good))
    assert mean == pytest.approx(
        np.mean([AVERAGE_PRECISION(t, g) for t, g in zip(truths, good, strict=True)])
    )
    # A fold's scores may lie on another scale than the other's.
    assert metric(target, np.concatenate([good[0], good[1] + 100.0])) == pytest.approx(mean)
    once = metric.clustered(target, np.concatenate(good), np.zeros(4_000, np.int64), 1)
    assert once(np.ones(1)) == pytest.approx(mean)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """60 days of 80 cards at 40 terminals: one terminal is bad for a while, odd amounts are too."""
    rng = np.random.default_rng(4)
    count = 60 * 80 * 2
    seconds = np.sort(rng.integers(0, 60 * 86_400, count))
    card, terminal = rng.integers(0, 80, count), rng.integers(0, 40, count)
    day = seconds // 86_400
    usual = 10.0 + card
    odd = rng.random(count) < 0.01
    bad = (terminal // 2 == day // 3) | ((terminal == 39) & (day >= 20))
    path = tmp_path_factory.mktemp("world") / "transactions.parquet"
    pl.DataFrame(
        {
            "TRANSACTION_ID": np.arange(count),
            "TX_DATETIME": [BEGIN + timedelta(seconds=int(second)) for second in seconds],
            "CUSTOMER_ID": card,
            "TERMINAL_ID": terminal,
            "TX_AMOUNT": np.round(usual * rng.uniform(0.5, 1.5, count) * np.where(odd, 5, 1), 2),
            "TX_FRAUD": (odd | bad).astype(np.int8),
        }
    ).with_columns(pl.col("TX_DATETIME").cast(pl.Datetime("ms"))).write_parquet(path)
    return with_ratios(computed(path.with_name("work"), path))


def test_more_features_stand_beside_the_books(world: pl.DataFrame) -> None:
    book = load_feature_set(EXAMPLE / "definitions.py")
    more = load_feature_set(EXAMPLE / "definitions_more.py")
    for entity in book.entities:
        first = book.outputs_of(entity)
        assert more.outputs_of(entity)[: len(first)] == first
        assert len(more.outputs_of(entity)) > len(first)
    assert set(BOOK) | set(OURS) <= set(world.columns)
    assert "fraud" not in OURS + BOOK


def test_ratios_are_what_they_say(world: pl.DataFrame) -> None:
    week_us = 7 * 86_400_000_000
    frame = world.with_columns(at=pl.col("event_time").dt.epoch("us"))
    amount = pl.col("lifetime_transaction_amount_ref_minor_last")
    compared = 0
    for row in frame[len(frame) // 2 :: 997].iter_rows(named=True):
        card = frame.filter((pl.col("card") == row["card"]) & (pl.col("at") <= row["at"]))
        old = card.filter(pl.col("at") <= row["at"] - week_us)
        spent = row["lifetime_transaction_amount_ref_minor_last"]
        usual = old.select(amount.mean()).item()
        assert row["amount_to_usual"] == pytest.approx(spent / usual)
        spread = old.select(amount.std(ddof=0)).item()
        assert row["amount_score"] == pytest.approx((spent - usual) / (spread + 100))
        latest = card.filter(pl.col("at").is_between(row["at"] - week_us, row["at"], closed="none"))
        assert row["earlier_most_7d_to_usual"] == pytest.approx(
            latest.select(amount.max()).item() / usual
        )
        shop = frame.filter(
            (pl.col("counterparty_id") == row["counterparty_id"])
            & (pl.col("at") <= row["at"] - week_us)
        )
        last = {fraud: shop.filter(pl.col("fraud") == fraud)["at"].max() for fraud in (0, 1)}
        for name, at in (("days_since_fraud", last[1]), ("days_since_honest", last[0])):
            days = None if at is None else (row["at"] - at) / 86_400e6
            assert row[name] == (None if days is None else pytest.approx(days))
        frauds = shop.filter((pl.col("fraud") == 1) & (pl.col("at") > row["at"] - 5 * week_us))[
            "at"
        ]
        if len(frauds):
            assert row["days_since_first_fraud_28d"] == pytest.approx(
                (row["at"] - frauds.min()) / 86_400e6
            )
            compared += 1
        else:
            assert row["days_since_first_fraud_28d"] is None
    assert compared > 0


def test_both_members_learn_and_give_the_same_twice(world: pl.DataFrame) -> None:
    parts = split(world, Fold(date(2018, 7, 5)))
    members = (replace(Forest(), trees=30), replace(Boosted(), seeds=1, rounds=60))
    scores = blended(parts, members, threads=2)
    assert Figures.of(parts.test, scores).ap > 2 * parts.test["fraud"].mean()  # type: ignore[operator]
    np.testing.assert_array_equal(scores, blended(parts, members, threads=2))
    # The test rows' own labels change nothing.
    blind = Parts(parts.train, parts.test.with_columns(fraud=pl.lit(0)))
    np.testing.assert_array_equal(scores, blended(blind, members, threads=2))


def test_balanced_classes_raise_the_chances(world: pl.DataFrame) -> None:
    parts = split(world, Fold(date(2018, 7, 5)))
    for member in (replace(Forest(), trees=30), replace(Boosted(), seeds=1, rounds=30)):
        plain = supervised(parts, member, threads=1)
        balanced = supervised(parts, imbalanced(member, "balanced"), threads=1)
        assert balanced.mean() > plain.mean()


def test_thinning_keeps_every_fraud_and_its_chances_are_put_right() -> None:
    rng = np.random.default_rng(6)
    strength = rng.integers(0, 4, 200_000)
    truth = np.array([0.001, 0.005, 0.01, 0.05])
    fraud = (rng.random(200_000) < truth[strength]).astype(float)
    kept, honest_kept = thinned(fraud, seed=0)
    assert fraud[kept].sum() == fraud.sum()
    assert len(kept) == 11 * fraud.sum()
    assert (np.diff(kept) > 0).all()
    # A perfect model of the thinned rows says how often each strength is fraud among them.
    seen = np.bincount(strength[kept], fraud[kept]) / np.bincount(strength[kept])
    assert (seen > 3 * truth).all()
    everywhere = np.bincount(strength, fraud) / np.bincount(strength)
    np.testing.assert_allclose(as_without_thinning(seen, honest_kept), everywhere, rtol=0.1)
    none_to_thin = np.array([1.0, 0.0, 0.0])
    assert thinned(none_to_thin, seed=0)[1] == 1.0


@pytest.mark.skipif(not TRANSACTIONS.is_file(), reason=f"no public data at {TRANSACTIONS}")
def test_the_handbooks_splits_have_its_rows_and_frauds() -> None:
    frame = pl.read_parquet(TRANSACTIONS).select(
        date=pl.col("TX_DATETIME").dt.date(), card="CUSTOMER_ID", fraud="TX_FRAUD"
    )
    found = {}
    for fold in TEST + TUNING:
        parts = split(frame, fold)
        found[str(fold)] = (
            *(parts.train.height, int(parts.train["fraud"].sum())),
            *(parts.test.height, int(parts.test["fraud"].sum())),
        )
    assert found[str(SINGLE)] == (67_240, 598, 58_264, 385)
    # Of the other folds the handbook prints no counts; these are what its rule gives.
    assert found["2018-08-15"] == (67_049, 594, 57_604, 422)
    assert found["2018-08-08"] == (67_080, 568, 58_337, 408)
    assert found["2018-08-01"] == (66_975, 626, 57_937, 387)
