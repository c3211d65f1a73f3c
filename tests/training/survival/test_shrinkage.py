from __future__ import annotations

import numpy as np

from training.survival.samples import Floats, Samples
from training.survival.shrinkage import Shrunk, shrink
from training.survival.weibull import Weibull, fit_weibull

GROUPS, COUNTRIES = 200, 10


def world(seed: int, count: int) -> tuple[Samples, np.ndarray, Floats]:
    """Corridors around their countries, each with a few values; their true scales."""
    rng = np.random.default_rng(seed)
    parent = np.arange(GROUPS) % COUNTRIES
    scale = np.exp(4 + rng.normal(0, 0.6, COUNTRIES)[parent] + rng.normal(0, 0.15, GROUPS))
    group = np.repeat(np.arange(GROUPS), count)
    value = scale[group] * rng.weibull(0.8, len(group))
    return Samples.of(value, np.ones(len(group), np.bool_), group, GROUPS), parent, scale


def shrunk(samples: Samples, parent: np.ndarray) -> tuple[Weibull, Shrunk]:
    own = fit_weibull(samples)
    parents = fit_weibull(samples.grouped(parent, COUNTRIES))
    return own, shrink(own, samples.ends, parents, parent)


def test_small_groups_are_nearer_to_the_truth() -> None:
    samples, parent, scale = world(1, 15)
    own, leaning = shrunk(samples, parent)
    mine = np.mean((np.log(own.scale) - np.log(scale)) ** 2)
    theirs = np.mean((np.log(leaning.weibull.scale) - np.log(scale)) ** 2)
    country = np.mean(
        (np.log(fit_weibull(samples.grouped(parent, COUNTRIES)).scale[parent]) - np.log(scale)) ** 2
    )
    assert theirs < 0.4 * mine
    assert theirs < 0.9 * country
    # 0.15^2 between corridors of one country, about 1 / (0.8^2 * 15) within.
    assert 0.1 < np.median(leaning.own_share) < 0.4
    assert np.all((leaning.own_share > 0) & (leaning.own_share < 1))


def test_intervals_still_cover() -> None:
    covered = []
    for seed in range(5):
        samples, parent, scale = world(seed, 15)
        _, leaning = shrunk(samples, parent)
        _, _, low, high = leaning.weibull.interval()
        covered.append((low < scale) & (scale < high))
    assert np.mean(covered) > 0.9


def test_large_groups_keep_their_own() -> None:
    samples, parent, _ = world(2, 250)
    own, leaning = shrunk(samples, parent)
    assert leaning.weibull.scale.tolist() == own.scale.tolist()
    assert leaning.weibull.k.tolist() == own.k.tolist()
    assert np.all(leaning.own_share == 1.0)


def test_a_group_without_an_estimate_has_its_parents() -> None:
    samples, parent, _ = world(3, 15)
    own = fit_weibull(samples)
    bare = Weibull(*(np.where(np.arange(GROUPS) == 4, np.nan, each) for each in vars(own).values()))
    parents = fit_weibull(samples.grouped(parent, COUNTRIES))
    leaning = shrink(bare, samples.ends, parents, parent)
    assert leaning.weibull.scale[4] == parents.scale[parent[4]]
    assert leaning.own_share[4] == 0.0
    assert leaning.weibull.var_log_scale[4] > 0
