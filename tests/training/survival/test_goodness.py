from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from training.survival.goodness import kolmogorov_smirnov, probability_integral_transform
from training.survival.pictures import kaplan_meier, survival_picture
from training.survival.samples import Samples
from training.survival.weibull import fit_weibull


def samples(seed: int, *, lognormal: bool) -> Samples:
    rng = np.random.default_rng(seed)
    value = rng.lognormal(4, 1.2, 4_000) if lognormal else 80 * rng.weibull(0.8, 4_000)
    cut = rng.exponential(300.0, 4_000)
    return Samples.of(np.minimum(value, cut), value <= cut, np.zeros(4_000, np.int64), 1)


def test_places_are_uniform_where_the_model_is_right() -> None:
    right = samples(1, lognormal=False)
    places = probability_integral_transform(right, fit_weibull(right))
    distance, p_value = kolmogorov_smirnov(right, places)
    assert places.min() >= 0
    assert places.max() <= 1
    assert distance[0] < 0.02
    assert p_value[0] > 0.05


def test_and_are_not_where_it_is_wrong() -> None:
    wrong = samples(2, lognormal=True)
    distance, p_value = kolmogorov_smirnov(
        wrong, probability_integral_transform(wrong, fit_weibull(wrong))
    )
    assert distance[0] > 0.03
    assert p_value[0] < 0.001


def test_the_distance_is_scipys_group_by_group() -> None:
    rng = np.random.default_rng(3)
    group = rng.integers(0, 4, 1_000)
    places = rng.random(1_000) ** (1 + group / 10)
    grouped = Samples.of(np.ones(1_000), np.ones(1_000, np.bool_), group, 5)
    distance, p_value = kolmogorov_smirnov(grouped, places)
    for each in range(4):
        expected = stats.kstest(places[group == each], "uniform")
        assert distance[each] == pytest.approx(expected.statistic)
        assert p_value[each] == pytest.approx(expected.pvalue, abs=0.01)
    assert np.isnan(distance[4])


def test_kaplan_and_meier() -> None:
    value = np.array([1.0, 2.0, 2.0, 3.0, 4.0])
    ended = np.array([True, True, False, True, False])
    times, survival = kaplan_meier(value, ended)
    assert times.tolist() == [1.0, 2.0, 3.0]
    assert survival.tolist() == pytest.approx([4 / 5, 4 / 5 * 3 / 4, 4 / 5 * 3 / 4 / 2])


def test_the_picture_is_a_picture() -> None:
    some = samples(4, lognormal=False)
    picture = survival_picture(some, fit_weibull(some), ["GB-NG"], "s")
    assert picture.startswith(b"\x89PNG")
    assert picture == survival_picture(some, fit_weibull(some), ["GB-NG"], "s")
