from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from feature_repo.contracts.errors import DatasetError
from training.autoencoder import AutoencoderConfig, Floats, fit_autoencoder

torch = pytest.importorskip("torch", reason="torch is an extra")

CONFIG = AutoencoderConfig(hidden=(16, 4), epochs=30, batch_rows=128, learning_rate=1e-2)


def traffic(rows: int, seed: int) -> Floats:
    """Six inputs that two hidden numbers decide, of very different sizes."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(rows, 2))
    mixed = hidden @ np.random.default_rng(0).normal(size=(2, 6))
    scale = np.array([1e-3, 1.0, 10.0, 1e4, 1.0, 1e6])
    return np.asarray(scale * (mixed + rng.normal(0, 0.05, (rows, 6))))


@pytest.fixture(scope="module")
def normal() -> Floats:
    return traffic(3_000, seed=1)


def test_what_breaks_the_pattern_stands_out(normal: Floats) -> None:
    network = fit_autoencoder(normal, CONFIG)
    usual = network.error(traffic(500, seed=2))
    rng = np.random.default_rng(3)
    # Each input as usual by itself, but from another row: only the pattern is broken.
    strange = network.error(rng.permuted(traffic(500, seed=2), axis=0))
    assert usual.shape == strange.shape == (500,)
    assert usual.min() >= 0.0
    assert np.median(strange) > 5 * np.median(usual)
    assert np.mean(strange[:, None] > usual[None, :]) > 0.9


def test_values_below_the_mean_are_repeated_too(normal: Floats) -> None:
    # With a rectified output nothing below the mean could be given back.
    network = fit_autoencoder(normal, CONFIG)
    low = normal[(normal < normal.mean(axis=0)).sum(axis=1) >= 4]
    assert len(low) > 500
    assert network.error(low).mean() < 0.2


def test_the_same_rows_give_the_same_network(normal: Floats) -> None:
    before = torch.get_num_threads(), torch.random.get_rng_state()
    first, second = fit_autoencoder(normal, CONFIG), fit_autoencoder(normal, CONFIG)
    np.testing.assert_array_equal(first.error(normal), second.error(normal))
    other = fit_autoencoder(normal, replace(CONFIG, seed=8))
    assert (first.error(normal) != other.error(normal)).any()
    assert torch.get_num_threads() == before[0]
    assert (torch.random.get_rng_state() == before[1]).all()


def test_a_missing_value_counts_as_the_mean_and_a_constant_input_as_none(normal: Floats) -> None:
    rows = np.c_[normal, np.full(len(normal), 3.0)]
    rows[::10, 1] = np.nan
    network = fit_autoencoder(rows, CONFIG)
    seen = rows[5:6].copy()
    seen[0, 1] = np.nan
    filled = seen.copy()
    filled[0, 1] = np.nanmean(rows[:, 1])
    np.testing.assert_allclose(network.error(seen), network.error(filled), rtol=1e-3)
    changed = seen.copy()
    changed[0, 6] = 5.0
    assert network.error(changed)[0] > network.error(seen)[0]


def test_one_absurd_value_has_a_bounded_error(normal: Floats) -> None:
    network = fit_autoencoder(normal, CONFIG)
    absurd = normal[:1].copy()
    absurd[0, 0] = 1e30
    assert np.isfinite(network.error(absurd)).all()


@pytest.mark.parametrize("rows", [np.empty((0, 3)), np.array([[1.0, np.inf], [0.0, 1.0]])])
def test_rows_that_cannot_teach_are_refused(rows: Floats) -> None:
    with pytest.raises(DatasetError, match="finite rows of normal traffic"):
        fit_autoencoder(rows, CONFIG)
