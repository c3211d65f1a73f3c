from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from training.survival.alternatives import (
    exponential_log_likelihood,
    fit_exponential,
    fit_lognormal,
    lognormal_log_likelihood,
)
from training.survival.samples import Samples


def test_censored_lognormals_are_found() -> None:
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(3), 20_000)
    mu, sigma = np.array([2.0, 4.0, 5.0]), np.array([0.5, 1.0, 1.5])
    value = np.exp(rng.normal(mu[group], sigma[group]))
    cut = np.exp(rng.normal(mu[group] + 0.5, 1.0))
    samples = Samples.of(np.minimum(value, cut), value <= cut, group, 3)
    assert 0.25 < 1 - samples.ended.mean() < 0.45
    fitted = fit_lognormal(samples)
    assert fitted.mu == pytest.approx(mu, abs=0.03)
    assert fitted.sigma == pytest.approx(sigma, rel=0.02)


def test_without_censoring_they_are_closed_forms() -> None:
    value = np.random.default_rng(2).lognormal(3.0, 0.7, 1_000)
    samples = Samples.of(value, np.ones(1_000, np.bool_), np.zeros(1_000, np.int64), 1)
    lognormal, exponential = fit_lognormal(samples), fit_exponential(samples)
    assert lognormal.mu[0] == pytest.approx(np.log(value).mean())
    assert lognormal.sigma[0] == pytest.approx(np.log(value).std())
    assert exponential.mean[0] == pytest.approx(value.mean())
    assert lognormal_log_likelihood(samples, lognormal)[0] == pytest.approx(
        stats.lognorm.logpdf(value, lognormal.sigma[0], scale=np.exp(lognormal.mu[0])).sum()
    )
    assert exponential_log_likelihood(samples, exponential)[0] == pytest.approx(
        stats.expon.logpdf(value, scale=value.mean()).sum()
    )


def test_an_exponential_counts_the_time_of_what_goes_on() -> None:
    rng = np.random.default_rng(3)
    value, cut = rng.exponential(100.0, 50_000), rng.exponential(150.0, 50_000)
    samples = Samples.of(np.minimum(value, cut), value <= cut, np.zeros(50_000, np.int64), 1)
    assert fit_exponential(samples).mean[0] == pytest.approx(100.0, rel=0.02)
