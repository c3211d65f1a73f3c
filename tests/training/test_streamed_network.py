from __future__ import annotations

import sys

import numpy as np
import pytest

from feature_repo.contracts.errors import ModelError
from feature_repo.scoring.network import Network
from training.network_onnx import to_onnx
from training.streamed_network import Columns, Floats, NetworkConfig, StreamedNetwork

torch = pytest.importorskip("torch", reason="torch is an extra")

CONFIG = NetworkConfig(
    hidden=(16, 8),
    embedding=4,
    most_categories=6,
    steps=4,
    replayed=64,
    replay_rows=500,
    learning_rate=5e-3,
    weight_decay=1e-4,
    averaging=0.95,
    clip=5.0,
    seed=7,
    threads=1,
)
COLUMNS = Columns(width=4, categorical=(2,), periodic={1: 24.0})


def rows_of(count: int, seed: int) -> tuple[Floats, Floats]:
    """An amount over four orders of magnitude, an hour, a category and noise; some missing."""
    rng = np.random.default_rng(seed)
    amount = np.exp(rng.uniform(0, 10, count)) * rng.choice([-1, 1], count)
    hour = rng.integers(0, 24, count).astype(float)
    code = rng.integers(0, 5, count).astype(float)
    effect = np.array([0.0, 1.0, -1.0, 2.0, 0.5])[code.astype(int)]
    target = 3 + np.sign(amount) * np.log1p(np.abs(amount)) / 5 + np.cos(hour / 24 * 2 * np.pi)
    target = target + effect + rng.normal(0, 0.1, count)
    rows = np.c_[amount, hour, code, rng.normal(size=count)]
    rows[rng.random(rows.shape) < 0.05] = np.nan
    return rows, target


def learnt(batches: int = 150, seed: int = 1) -> StreamedNetwork:
    network = StreamedNetwork(COLUMNS, CONFIG)
    rows, target = rows_of(batches * 64, seed)
    for at in range(0, len(rows), 64):
        network.learn(rows[at : at + 64], target[at : at + 64])
    return network


@pytest.fixture(scope="module")
def network() -> StreamedNetwork:
    return learnt()


def test_it_learns_numbers_hours_and_categories(network: StreamedNetwork) -> None:
    rows, target = rows_of(2_000, 2)
    whole = ~np.isnan(rows).any(axis=1)
    wrong = network.predict(rows) - target
    assert np.sqrt((wrong[whole] ** 2).mean()) < 0.25
    assert np.sqrt((wrong**2).mean()) < 0.5 < 0.5 * target.std()


def test_the_same_stream_gives_the_same_network(network: StreamedNetwork) -> None:
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    again = learnt()
    rows, _ = rows_of(500, 3)
    np.testing.assert_array_equal(network.predict(rows), again.predict(rows))
    assert to_onnx(network) == to_onnx(again)
    assert (torch.random.get_rng_state() == state).all()
    assert torch.get_num_threads() == threads
    assert (learnt(seed=2).predict(rows) != network.predict(rows)).any()


def test_onnx_gives_what_torch_does(network: StreamedNetwork) -> None:
    rows, _ = rows_of(3_000, 4)
    rows[0] = np.nan
    rows[1, 2] = 77.0  # a code without an embedding
    rows[2, 0] = 1e12
    exported = Network(to_onnx(network))
    assert exported.width == 4
    scores = exported(rows)
    assert scores.shape == (3_000,)
    np.testing.assert_allclose(scores, network.predict(rows), rtol=0, atol=1e-5)
    assert scores.std() > 0.5


@pytest.mark.parametrize(
    "columns",
    [
        Columns(width=3),
        Columns(width=2, categorical=(0, 1)),
        Columns(width=2, periodic={0: 24.0, 1: 7.0}),
    ],
)
def test_onnx_of_any_columns(columns: Columns) -> None:
    network = StreamedNetwork(columns, CONFIG)
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 7, (256, columns.width)).astype(float)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    network.learn(rows, np.nansum(rows, axis=1))
    found = Network(to_onnx(network))(rows)
    np.testing.assert_allclose(found, network.predict(rows), rtol=0, atol=1e-5)


def test_what_was_never_seen_counts_as_unknown(network: StreamedNetwork) -> None:
    fresh = StreamedNetwork(COLUMNS, CONFIG)
    rows, target = rows_of(64, 5)
    rows[:, 2] = np.where(rows[:, 2] == 4, np.nan, rows[:, 2])
    assert fresh.predict(rows).tolist() == [0.0] * 64
    only = rows[~np.isnan(rows[:, 2])]
    fresh.learn(only, target[~np.isnan(rows[:, 2])])
    seen, unknown, new, beyond = (only[:1].copy() for _ in range(4))
    for row, code in ((unknown, np.nan), (new, 4.0), (beyond, 6.0)):
        row[0, 2] = code
    same = [float(fresh.predict(row)[0]) for row in (unknown, new, beyond)]
    assert same[0] == same[1] == same[2] != float(fresh.predict(seen)[0])


def test_standardised_by_what_was_learnt_from_and_nothing_else() -> None:
    network = StreamedNetwork(COLUMNS, CONFIG)
    rows, target = rows_of(640, 6)
    for at in range(0, 640, 64):
        network.learn(rows[at : at + 64], target[at : at + 64])
        network.predict(rows[at : at + 300] * 1_000)
    logs = np.sign(rows[:, [0, 3]]) * np.log1p(np.abs(rows[:, [0, 3]]))
    np.testing.assert_allclose(network.module.mean, np.nanmean(logs, axis=0), rtol=1e-5)
    np.testing.assert_allclose(network.module.spread, np.nanstd(logs, axis=0), rtol=1e-5)
    np.testing.assert_allclose(network.module.target_mean, [target.mean()], rtol=1e-5)


def test_one_absurd_value_steers_nothing(network: StreamedNetwork) -> None:
    rows, _ = rows_of(1, 7)
    absurd = rows.copy()
    absurd[0, 0] = 1e30
    assert abs(float(network.predict(absurd)[0])) < 20


def test_the_sample_of_before_stays_small(network: StreamedNetwork) -> None:
    assert len(network._kept) == 500
    assert network._seen == 150 * 64


def test_without_torch_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModelError, match=r"pip install 'daima\[torch\]'"):
        StreamedNetwork(COLUMNS, CONFIG)
