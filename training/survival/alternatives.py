"""What else the values might be: exponential and lognormal, by the same censored likelihood."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr

from training.survival.samples import Floats, Samples

_STEPS = 200
_CLOSE = 1e-9


@dataclass(frozen=True)
class Exponential:
    """g distributions of constant hazard; `mean` (g,) in the values' unit."""

    mean: Floats


@dataclass(frozen=True)
class Lognormal:
    """g distributions of log values: `mu`, `sigma`, (g,) each."""

    mu: Floats
    sigma: Floats


def fit_exponential(samples: Samples) -> Exponential:
    """All the time there was, over the ends seen."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return Exponential(samples.total(samples.value) / samples.ends)


def exponential_log_likelihood(samples: Samples, fitted: Exponential) -> Floats:
    """See `weibull.log_likelihood`."""
    mean = fitted.mean[samples.group]
    return samples.total(np.where(samples.ended, -np.log(mean), 0.0) - samples.value / mean)


def fit_lognormal(samples: Samples) -> Lognormal:
    """By expectation and maximisation: a censored value counts as what is expected beyond it.

    Without censored values this is the mean and the standard deviation of the logs, in one step.
    """
    log_value, group = np.log(samples.value), samples.group
    count = np.maximum(samples.count, 1)
    mu = samples.total(log_value) / count
    sigma = np.sqrt(samples.total((log_value - mu[group]) ** 2) / count)
    open_ = np.flatnonzero(~samples.ended)
    if not len(open_):
        return Lognormal(mu, sigma)
    for _ in range(_STEPS):
        safe = np.maximum(sigma, 1e-9)
        z = (log_value[open_] - mu[group[open_]]) / safe[group[open_]]
        # The hazard of the standard normal: expected excess over z.
        ratio = np.exp(-0.5 * z**2 - 0.5 * np.log(2 * np.pi) - log_ndtr(-z))
        expected, square = log_value.copy(), np.zeros(len(log_value))
        expected[open_] = mu[group[open_]] + safe[group[open_]] * ratio
        square[open_] = safe[group[open_]] ** 2 * np.maximum(1 + z * ratio - ratio**2, 0.0)
        before = mu, sigma
        mu = samples.total(expected) / count
        sigma = np.sqrt(samples.total((expected - mu[group]) ** 2 + square) / count)
        if max(np.abs(mu - before[0]).max(), np.abs(sigma - before[1]).max()) < _CLOSE:
            break
    return Lognormal(mu, sigma)


def lognormal_log_likelihood(samples: Samples, fitted: Lognormal) -> Floats:
    """See `weibull.log_likelihood`."""
    mu, sigma = fitted.mu[samples.group], np.maximum(fitted.sigma[samples.group], 1e-12)
    log_value = np.log(samples.value)
    z = (log_value - mu) / sigma
    density = -0.5 * z**2 - np.log(sigma) - log_value - 0.5 * np.log(2 * np.pi)
    return samples.total(np.where(samples.ended, density, log_ndtr(-z)))
