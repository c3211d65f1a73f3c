"""Groups with few values lean on their parents: a corridor on its send country, that on all.

Normal-normal empirical Bayes on (log k, log scale), each parameter by itself: a small group's own
estimate and its parent's are weighed by how sure the first is and by how much groups of one parent
differ (Efron and Morris, 1973; the spread by DerSimonian and Laird's moments, 1986).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.survival.samples import Bools, Floats, Ints
from training.survival.weibull import Weibull

LEAST_OWN = 200


@dataclass(frozen=True)
class Shrunk:
    """Estimates after leaning on parents.

    Attributes:
        weibull: the distributions.
        own_share: (g,) weight of the group's own estimate of log scale, 0 to 1.
    """

    weibull: Weibull
    own_share: Floats


def shrink(
    own: Weibull, count: Floats, parents: Weibull, parent: Ints, least: int = LEAST_OWN
) -> Shrunk:
    """Lean groups of fewer than `least` values on their parents.

    Args:
        own: (g,) estimates, NaN where there is none.
        count: (g,) values a group.
        parents: (p,) estimates of the parents, each over all values of its groups.
        parent: (g,) each group's.
    """
    small = count < least
    scale, var_scale, share = _lean(
        np.log(own.scale), own.var_log_scale, np.log(parents.scale), parents.var_log_scale,
        parent, small,
    )  # fmt: skip
    k, var_k, _ = _lean(
        np.log(own.k), own.var_log_k, np.log(parents.k), parents.var_log_k, parent, small
    )
    return Shrunk(
        Weibull(np.exp(k), np.exp(scale), var_k, var_scale, np.where(small, 0.0, own.cov)), share
    )


def _lean(  # noqa: PLR0917 - one parameter: both sides with their variances
    own: Floats,
    variance: Floats,
    parents: Floats,
    parents_variance: Floats,
    parent: Ints,
    small: Bools,
) -> tuple[Floats, Floats, Floats]:
    base = parents[parent]
    spread = _spread(own, variance, base)
    has = np.isfinite(own) & np.isfinite(variance) & (variance > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(has, spread / (spread + variance), 0.0)
    share = np.where(small, share, 1.0)
    leaning = np.where(has, share * np.where(has, own, 0.0), 0.0) + (1 - share) * base
    around = spread * (1 - share) + (1 - share) ** 2 * parents_variance[parent]
    return (
        np.where(small, leaning, own),
        np.where(small, np.where(has, around, spread + parents_variance[parent]), variance),
        share,
    )


def _spread(own: Floats, variance: Floats, base: Floats) -> float:
    """Variance of groups around their parents, beyond what chance explains."""
    has = np.isfinite(own) & np.isfinite(variance) & (variance > 0) & np.isfinite(base)
    if has.sum() < 2:
        return 0.0
    weight = 1 / variance[has]
    excess = float(weight @ (own[has] - base[has]) ** 2) - has.sum()
    room = float(weight.sum() - (weight @ weight) / weight.sum())
    return float(max(excess / room, 0.0))
