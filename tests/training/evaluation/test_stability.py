"""Stability of columns: silent where nothing moved, whatever the sample; loud where it did."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from feature_repo.contracts.errors import ModelError
from training.evaluation.stability import (
    Reference,
    effective_rows,
    stability,
    stability_index,
    stability_picture,
)

NAMES = ("normal", "skewed", "count", "category", "constant", "gone")
CATEGORIES = ("category",)


def rows(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    skewed = np.exp(rng.normal(size=count))
    skewed[rng.random(count) < 0.05] = np.nan
    return np.column_stack(
        [
            rng.normal(size=count) + shift,
            skewed,
            rng.poisson(1.0, count),
            rng.choice(15, p=np.arange(15, 0, -1) / 120, size=count),
            np.full(count, 3.0),
            np.full(count, np.nan),
        ]
    )


def of(matrix: np.ndarray, effective: float | None = None) -> Reference:
    return Reference.of(matrix, NAMES, CATEGORIES, effective)


@pytest.mark.parametrize(("before", "now"), [(500, 100), (500, 500), (20_000, 300)])
def test_samples_of_one_population_are_no_finding(before: int, now: int) -> None:
    false = 0
    for seed in range(60):
        found = stability(of(rows(before, 2 * seed)), rows(now, 2 * seed + 1))
        false += int(found["real"].any())
    assert false <= 4, "at 1 % of samples, 0.6 of 60 are expected"


def test_the_noise_that_is_taken_off_is_what_there_is() -> None:
    """The index of a sample itself is far from 0; less its mean it is about 0."""
    raw, corrected = [], []
    for seed in range(200):
        reference = of(rows(300, 2 * seed))
        sample = rows(300, 2 * seed + 1)
        column = reference.columns[0]
        shares = np.array(column.shares)
        raw.append(stability_index(shares, column.shares_of(sample[:, 0]), 300, 300))
        corrected.append(raw[-1] - 9 * (1 / 300 + 1 / 300))
    assert np.mean(raw) > 0.045
    assert abs(np.mean(corrected)) < 0.012


def test_a_shift_is_found_and_measured() -> None:
    found = stability(of(rows(100_000, 1)), rows(100_000, 2, shift=0.5))
    worst = found.row(0, named=True)
    assert worst["column"] == "normal"
    assert worst["real"]
    # Of two normal distributions half a deviation apart Jeffreys' divergence is 0.25; deciles lose
    # a little of it.
    assert 0.22 < worst["psi"] < 0.25
    assert not found.filter(pl.col("column") != "normal")["real"].any()


@pytest.mark.parametrize(
    ("column", "value"),
    [("constant", 2.0), ("constant", 4.0), ("category", 40.0), ("gone", 1.0), ("count", np.nan)],
)
def test_values_never_seen_and_missing_ones_are_drift(column: str, value: float) -> None:
    changed = rows(1_000, 2)
    changed[:500, NAMES.index(column)] = value
    found = stability(of(rows(5_000, 1)), changed)
    assert found["column"][0] == column
    assert found["psi"][0] > 0.5
    assert found["real"].to_list() == [True] + [False] * (len(NAMES) - 1)
    if np.isnan(value):
        assert found["missing_now"][0] == 0.5


def test_many_rows_of_few_customers_say_little() -> None:
    """Thirty customers with a hundred rows each, all alike, are thirty, not three thousand."""
    customers = pl.Series([f"c{number // 100}" for number in range(3_000)])
    assert effective_rows(customers) == pytest.approx(30.0)
    assert effective_rows(customers.head(0)) == 0.0
    repeated = np.repeat(rows(30, 2), 100, axis=0)
    naive = stability(of(rows(20_000, 1)), repeated)
    honest = stability(of(rows(20_000, 1)), repeated, effective_rows(customers))
    assert naive["real"].any()
    assert not honest["real"].any()


def test_a_reference_survives_its_file() -> None:
    reference = of(rows(1_000, 1), effective=200.0)
    assert Reference.from_json(reference.to_json()) == reference
    with pytest.raises(ModelError, match=r"reference\.json"):
        Reference.from_json(b'{"rows": "many"}')


def test_other_columns_and_no_rows_are_errors() -> None:
    reference = of(rows(1_000, 1))
    with pytest.raises(ModelError, match="6 columns"):
        stability(reference, np.zeros((3, 5)))
    with pytest.raises(ModelError, match="6 columns"):
        stability(reference, np.zeros((0, 6)))
    with pytest.raises(ModelError, match="reference"):
        of(np.zeros((0, 6)))


def test_its_picture_is_one() -> None:
    reference, today = of(rows(1_000, 1)), rows(1_000, 2, shift=1.0)
    found = stability(reference, today)

    def drawn(*marked: str) -> bytes:
        return stability_picture(
            found,
            reference,
            today,
            marked=marked,
            categories={"category": ["app", "web"]},
            title="model version 1",
        )

    assert drawn("normal").startswith(b"\x89PNG")
    assert drawn("normal") == drawn("normal")
    assert drawn("normal") != drawn()
