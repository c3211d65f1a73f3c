"""Planted distributions are found again, censored or not; a fit that ignores censoring fails."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from feature_repo.contracts.errors import DatasetError
from training.survival.samples import Floats, Samples
from training.survival.weibull import (
    Weibull,
    fit_weibull,
    log_likelihood,
)

K, SCALE = 0.7, 200.0


def drawn(seed: int, count: int, *, cut: float | None = None) -> tuple[Floats, np.ndarray]:
    """Weibull values; `cut`: the mean of an exponential time at which looking ends."""
    rng = np.random.default_rng(seed)
    value = SCALE * rng.weibull(K, count)
    if cut is None:
        return value, np.ones(count, np.bool_)
    end = rng.exponential(cut, count)
    return np.minimum(value, end), value <= end


def one(value: Floats, ended: np.ndarray) -> Samples:
    return Samples.of(value, ended, np.zeros(len(value), np.int64), 1)


def errors(*, naive: bool) -> Floats:
    """Relative errors of k and scale over 100 repeats of 10,000 sessions: (100, 2)."""
    found = []
    for seed in range(100):
        value, ended = drawn(seed, 10_000, cut=420.0)
        assert 0.30 < 1 - ended.mean() < 0.40
        fitted = fit_weibull(one(value, np.ones_like(ended) if naive else ended))
        found.append([fitted.k[0] / K - 1, fitted.scale[0] / SCALE - 1])
    return np.abs(np.array(found))


def test_planted_parameters_are_found_despite_censoring() -> None:
    within = errors(naive=False) <= [0.03, 0.05]
    assert within.mean(axis=0).tolist() >= [0.95, 0.95]


def test_a_fit_that_ignores_censoring_fails_the_same_test() -> None:
    within = errors(naive=True) <= [0.03, 0.05]
    assert within.mean(axis=0).max() < 0.05


def test_it_is_the_maximum_of_the_likelihood() -> None:
    value, ended = drawn(3, 400, cut=300.0)
    samples = one(value, ended)
    fitted = fit_weibull(samples)

    def loss(log: Floats) -> float:
        point = Weibull(*np.exp(np.asarray(log)).reshape(2, 1), *np.zeros((3, 1)))
        return -float(log_likelihood(samples, point)[0])

    best = optimize.minimize(loss, np.log([1.0, 100.0]), method="Nelder-Mead", tol=1e-10)
    assert [fitted.k[0], fitted.scale[0]] == pytest.approx(np.exp(best.x).tolist(), rel=1e-4)


def test_without_censoring_it_is_scipys() -> None:
    value, ended = drawn(4, 2_000)
    fitted = fit_weibull(one(value, ended))
    k, _, scale = stats.weibull_min.fit(value, floc=0)
    assert [fitted.k[0], fitted.scale[0]] == pytest.approx([k, scale], rel=1e-3)
    assert log_likelihood(one(value, ended), fitted)[0] == pytest.approx(
        stats.weibull_min.logpdf(value, fitted.k[0], scale=fitted.scale[0]).sum(), rel=1e-12
    )


def test_groups_are_fitted_apart() -> None:
    rng = np.random.default_rng(5)
    group = rng.integers(0, 50, 60_000)
    k, scale = rng.uniform(0.5, 2.0, 50), rng.uniform(1e-3, 1e6, 50)
    value = scale[group] * rng.weibull(1.0, len(group)) ** (1 / k[group])
    together = fit_weibull(Samples.of(value, np.ones(len(group), np.bool_), group, 50))
    alone = fit_weibull(one(value[group == 7], np.ones(int((group == 7).sum()), np.bool_)))
    assert together.k[7] == pytest.approx(alone.k[0], rel=1e-9)
    assert together.scale[7] == pytest.approx(alone.scale[0], rel=1e-9)
    assert np.abs(together.k / k - 1).max() < 0.15


def test_intervals_cover_what_they_claim() -> None:
    repeats, group = 400, np.repeat(np.arange(400), 150)
    value, ended = drawn(6, len(group), cut=420.0)
    fitted = fit_weibull(Samples.of(value, ended, group, repeats))
    k_low, k_high, scale_low, scale_high = fitted.interval()
    for low, high, truth in ((k_low, k_high, K), (scale_low, scale_high, SCALE)):
        assert 0.92 <= np.mean((low < truth) & (truth < high)) <= 0.98


def test_groups_that_say_nothing_have_no_estimate() -> None:
    value = np.array([5.0, 3.0, 3.0, 4.0, 9.0, 2.0])
    ended = np.array([True, True, True, False, True, True])
    group = np.array([0, 1, 1, 2, 3, 3])
    fitted = fit_weibull(Samples.of(value, ended, group, 5))
    assert np.isfinite(fitted.k).tolist() == [False, False, False, True, False]
    assert np.isfinite(fitted.scale).tolist() == [False, False, False, True, False]


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_values_without_a_length_are_refused(bad: float) -> None:
    with pytest.raises(DatasetError, match="finite values above 0"):
        one(np.array([1.0, bad]), np.ones(2, np.bool_))
    with pytest.raises(DatasetError, match="at least one"):
        one(np.empty(0), np.empty(0, np.bool_))
