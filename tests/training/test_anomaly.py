"""The anomaly network: over a model's own matrix, and the same as ONNX as in torch."""

from __future__ import annotations

import numpy as np
import pytest

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.model_inputs import ModelInput, ModelInputs
from feature_repo.scoring.network import Network
from training.anomaly import AnomalyConfig, fit_anomaly
from training.autoencoder import Autoencoder, Floats, fit_autoencoder

torch = pytest.importorskip("torch", reason="torch is an extra")
CONFIG = AnomalyConfig(hidden=(8, 2), epochs=15, batch_rows=128, learning_rate=1e-2)
INPUTS = ModelInputs(
    "payment_fraud",
    (
        ModelInput("a", "amount", "Int64"),
        ModelInput("a", "device", "String", ("android", "ios")),
        ModelInput("a", "count", "Int64"),
        ModelInput("a", "sent", "Int64"),
    ),
)


def traffic(rows: int, seed: int) -> Floats:
    """Amount, count and sent go together; the device is anything."""
    rng = np.random.default_rng(seed)
    size = rng.normal(size=rows)
    matrix = np.column_stack(
        [
            np.exp(6 + size),
            rng.integers(0, 2, rows),
            np.round(np.exp(2 + size)),
            -np.exp(9 + size),
        ]
    )
    matrix[rng.random(rows) < 0.05, 2] = np.nan
    return matrix


@pytest.fixture(scope="module")
def network() -> Network:
    return fit_anomaly(traffic(2_000, 1), INPUTS, CONFIG)


def test_it_is_the_autoencoder_over_the_numbers(network: Network) -> None:
    rows = traffic(400, 2)
    numbers = traffic(2_000, 1)[:, [0, 2, 3]]
    fitted: Autoencoder = fit_autoencoder(np.sign(numbers) * np.log1p(np.abs(numbers)), CONFIG)
    given = rows[:, [0, 2, 3]]
    expected = fitted.error(np.sign(given) * np.log1p(np.abs(given)))
    found = network(rows)
    assert found.shape == (400,)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert np.isfinite(network(np.full((1, 4), np.nan))).all()


def test_what_does_not_go_together_stands_out_whatever_the_device(network: Network) -> None:
    usual = traffic(400, 2)
    strange = usual.copy()
    strange[:, 0] = np.random.default_rng(3).permutation(strange[:, 0])
    assert np.median(network(strange)) > 5 * np.median(network(usual))
    other = usual.copy()
    other[:, 1] = 1 - other[:, 1]
    np.testing.assert_array_equal(network(other), network(usual))


def test_equal_rows_make_equal_graphs(network: Network) -> None:
    assert fit_anomaly(traffic(2_000, 1), INPUTS, CONFIG).raw == network.raw


def test_there_must_be_a_number_and_a_row() -> None:
    texts = ModelInputs("m", (INPUTS.inputs[1],))
    with pytest.raises(DatasetError, match="at least one number"):
        fit_anomaly(np.zeros((3, 1)), texts, CONFIG)
    with pytest.raises(DatasetError, match="finite rows of normal traffic"):
        fit_anomaly(np.empty((0, 4)), INPUTS, CONFIG)
