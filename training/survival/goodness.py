"""Whether a fitted distribution is what the values come from: PIT and Kolmogorov-Smirnov."""

from __future__ import annotations

import numpy as np
from scipy.stats import kstwobign

from training.survival.samples import Floats, Samples
from training.survival.weibull import Weibull


def probability_integral_transform(samples: Samples, fitted: Weibull, seed: int = 0) -> Floats:
    """Where each value falls in its group's distribution, 0 to 1; uniform if the fit is right.

    A censored value is somewhere beyond where it was cut: one place there is drawn at random.
    """
    place = 1.0 - fitted.survival(samples.value, samples.group)
    drawn = np.random.default_rng(seed).random(len(place))
    return np.where(samples.ended, place, place + (1.0 - place) * drawn)


def kolmogorov_smirnov(samples: Samples, places: Floats) -> tuple[Floats, Floats]:
    """The greatest distance of the places' distribution from the uniform one, and its p-value.

    Returns:
        (groups,) distance and (groups,) p-value; NaN for an empty group.

    Trap: the p-value is that of a distribution given in advance. Ours is fitted to the same
    values, so that a bad fit looks a little better than it is (Lilliefors 1967); with many
    thousand values every model is refused. Look at the distance first.
    """
    order = np.lexsort((places, samples.group))
    group, place = samples.group[order], places[order]
    count = samples.count
    first = np.concatenate([[0.0], np.cumsum(count)[:-1]])
    rank = np.arange(len(place)) - first[group]
    size = count[group]
    distance = np.maximum((rank + 1) / size - place, place - rank / size)
    found = np.full(samples.groups, -np.inf)
    np.maximum.at(found, group, distance)
    found[count == 0] = np.nan
    root = np.sqrt(count)
    # Stephens' correction for finite n.
    return found, np.asarray(kstwobign.sf(found * (root + 0.12 + 0.11 / np.maximum(root, 1.0))))
