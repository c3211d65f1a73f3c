"""Weibull distributions of many groups at once, by censored maximum likelihood.

f(t) = (k/l)(t/l)^(k-1) exp(-(t/l)^k); k < 1 is negative ageing: the longer it has lasted, the less
likely it ends. Source of the model for dwell times: Liu, White and Dumais, SIGIR 2010; of the
equations: Lawless, Statistical Models and Methods for Lifetime Data, 2003, section 5.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gamma, ndtri

from training.survival.samples import Bools, Floats, Ints, Samples

_STEPS = 60
_CLOSE = 1e-10
_QUADRATURE = 128
# Beyond these a group's values are all alike, or hold no information on the shape.
_LEAST_K, _MOST_K = 0.02, 50.0


@dataclass(frozen=True)
class Weibull:
    """g distributions; every array is of shape (g,).

    Attributes:
        k: shape.
        scale: lambda, in the values' unit: 63 % are shorter.
        var_log_k, var_log_scale, cov: of the estimates on the log scale; NaN without an estimate.
    """

    k: Floats
    scale: Floats
    var_log_k: Floats
    var_log_scale: Floats
    cov: Floats

    def interval(self, level: float = 0.95) -> tuple[Floats, Floats, Floats, Floats]:
        """Low and high of k, low and high of the scale: Wald intervals on the log scale."""
        z = float(ndtri(0.5 + level / 2))
        around_k = np.exp(z * np.sqrt(self.var_log_k))
        around_scale = np.exp(z * np.sqrt(self.var_log_scale))
        return (
            self.k / around_k,
            self.k * around_k,
            self.scale / around_scale,
            self.scale * around_scale,
        )

    def mean(self) -> Floats:
        """The expected value."""
        return np.asarray(self.scale * gamma(1 + 1 / self.k))

    def survival(self, value: Floats, group: Ints) -> Floats:
        """The chance to last longer than `value`, in the distribution of each value's group."""
        k, scale = self.k[group], self.scale[group]
        return np.asarray(np.exp(-((value / scale) ** k)))

    def hazard(self, value: Floats, group: Ints) -> Floats:
        """The rate of ending at `value`, of those that have lasted so long, per unit."""
        k, scale = self.k[group], self.scale[group]
        return np.asarray(k / scale * (value / scale) ** (k - 1))


def fit_weibull(samples: Samples) -> Weibull:
    """Fit every group; a group with fewer than two different whole values gets NaN.

    The likelihood of k alone has one maximum; Newton's steps are taken on log k, for all groups
    in one pass over the values.
    """
    log_value = np.log(samples.value)
    ends = samples.ends
    # Relative to each group's own mean: powers neither overflow nor vanish.
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = samples.total(log_value) / samples.count
        ended_log = samples.total(np.where(samples.ended, log_value, 0.0)) / ends
    log_value = log_value - centre[samples.group]
    mean_ended = ended_log - centre
    spread = samples.total(np.where(samples.ended, (log_value - mean_ended[samples.group]) ** 2, 0))
    known = (ends >= 2) & (spread > 1e-12 * np.maximum(ends, 1))

    # Of a Weibull variable, log t has the standard deviation pi / (k sqrt 6).
    with np.errstate(invalid="ignore", divide="ignore"):
        start = np.pi / np.sqrt(6 * np.maximum(spread, 1e-300) / np.maximum(ends, 1))
    log_k = np.log(np.clip(np.where(known, start, 1.0), 0.1, 10.0))
    for _ in range(_STEPS):
        k = np.exp(log_k)
        power = np.exp(k[samples.group] * log_value)
        sums = samples.total(power)
        with np.errstate(invalid="ignore", divide="ignore"):  # of groups without values
            first = samples.total(power * log_value) / sums
            second = samples.total(power * log_value**2) / sums
            equation = first - 1 / k - mean_ended
            slope = k * (second - first**2) + 1 / k
            step = np.clip(np.where(known, equation / slope, 0.0), -1.0, 1.0)
        log_k = np.clip(log_k - step, np.log(_LEAST_K), np.log(_MOST_K))
        if np.abs(step).max() < _CLOSE:
            break
    k = np.exp(log_k)
    power = np.exp(k[samples.group] * log_value)
    sums = samples.total(power)
    with np.errstate(invalid="ignore", divide="ignore"):
        log_scale = np.log(sums / ends) / k + centre
    return _with_errors(samples, k, log_scale, known)


def _with_errors(samples: Samples, k: Floats, log_scale: Floats, known: Bools) -> Weibull:
    """Variances from the observed information of (log k, log scale)."""
    group = samples.group
    # Groups without an estimate come to nothing here, and are left out below.
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        z = k[group] * (np.log(samples.value) - log_scale[group])
        power = np.exp(np.minimum(z, 700.0))
        # l = sum_ended (log k + z - log t) - sum exp(z): its second derivatives.
        kk = samples.total(power * z**2 + power * z - np.where(samples.ended, z, 0.0))
        ks = -k * samples.total(power * (1 + z) - samples.ended)
        ss = k**2 * samples.total(power)
        determinant = kk * ss - ks**2
        found = (ss / determinant, kk / determinant, -ks / determinant)
    nothing = np.nan
    return Weibull(
        np.where(known, k, nothing),
        np.where(known, np.exp(log_scale), nothing),
        *(np.where(known, each, nothing) for each in found),
    )


def log_likelihood(samples: Samples, fitted: Weibull) -> Floats:
    """Sum of each group's log densities (of censored values: log survival): (groups,)."""
    k, scale = fitted.k[samples.group], fitted.scale[samples.group]
    log_ratio = np.log(samples.value / scale)
    density = np.log(k) - np.log(scale) + (k - 1) * log_ratio
    return samples.total(np.where(samples.ended, density, 0.0) - np.exp(k * log_ratio))


def expected_log1p(fitted: Weibull) -> Floats:
    """The expected log(1 + value): (g,), by Gauss-Legendre quadrature over the quantiles.

    >>> fitted = Weibull(*np.array([[1.0], [100.0], [0.0], [0.0], [0.0]]))
    >>> expected_log1p(fitted).round(3)
    array([4.079])
    """
    points, weights = np.polynomial.legendre.leggauss(_QUADRATURE)
    values = fitted.scale[:, None] * (-np.log((1 + points) / 2)) ** (1 / fitted.k[:, None])
    return np.asarray(np.log1p(values) @ weights / 2)
