"""The models of the card-fraud benchmark: from a fold's parts to a score a test row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
import polars as pl
from sklearn.ensemble import RandomForestClassifier

from tests.benchmarks.card_fraud_inputs import BOOK, OURS
from tests.benchmarks.card_fraud_split import Parts
from training.autoencoder import Autoencoder, AutoencoderConfig, fit_autoencoder
from training.evaluation.metrics import Floats

# Of honest rows, how many a fraud are kept when the majority is thinned out.
HONEST_A_FRAUD = 10
Imbalance = Literal["none", "balanced", "undersampled"]
# An input that is not there (a terminal without any known fraud) lies below all that are.
_ABSENT = -1.0


@dataclass(frozen=True)
class Forest:
    """A random forest; `depth` None grows leaves of `min_leaf` rows."""

    inputs: tuple[str, ...] = OURS
    trees: int = 100
    depth: int | None = None
    min_leaf: int = 3
    imbalance: Imbalance = "none"
    seed: int = 0


@dataclass(frozen=True)
class Boosted:
    """LightGBM, the mean of several seeds."""

    inputs: tuple[str, ...] = OURS
    seeds: int = 3
    rounds: int = 300
    learning_rate: float = 0.03
    leaves: int = 8
    min_leaf: int = 20
    l2: float = 0.1
    input_share: float = 0.5
    row_share: float = 0.7
    imbalance: Imbalance = "none"


NETWORK = AutoencoderConfig(hidden=(64, 16), epochs=10)


@dataclass(frozen=True)
class Unsupervised:
    """The reconstruction error of an autoencoder that has seen honest rows only."""

    inputs: tuple[str, ...] = OURS
    network: AutoencoderConfig = NETWORK


# The book's model on the book's inputs, its depth chosen on the tuning folds.
REFERENCE = Forest(inputs=BOOK, min_leaf=1, depth=20)
# The blend: the mean of the probabilities. All values were chosen on the tuning folds.
BLEND = (Forest(), Forest(imbalance="undersampled"), Boosted(imbalance="undersampled"))


def blended(parts: Parts, members: Iterable[Forest | Boosted], threads: int) -> Floats:
    """The mean of the members' probabilities."""
    mean: Floats = np.mean([supervised(parts, each, threads) for each in members], axis=0)
    return mean


def supervised(
    parts: Parts,
    model: Forest | Boosted,
    threads: int,
    more: tuple[Floats, Floats] | None = None,
) -> Floats:
    """Train, and give each test row its probability: (n,).

    Args:
        more: one more input, of the training rows and of the test rows.
    """
    inputs, test_inputs = matrix(parts.train, model.inputs), matrix(parts.test, model.inputs)
    if more is not None:
        inputs, test_inputs = np.c_[inputs, more[0]], np.c_[test_inputs, more[1]]
    fraud = parts.train["fraud"].to_numpy()
    honest_kept = 1.0
    if model.imbalance == "undersampled":
        kept, honest_kept = thinned(fraud, seed=0)
        inputs, fraud = inputs[kept], fraud[kept]
    train = _forest if isinstance(model, Forest) else _boosted
    chances = train(inputs, fraud, test_inputs, model, threads)  # type: ignore[arg-type]
    return as_without_thinning(chances, honest_kept)


def unsupervised(parts: Parts, model: Unsupervised) -> tuple[Floats, Floats]:
    """The reconstruction errors of the training rows and of the test rows."""
    honest = parts.train.filter(pl.col("fraud") == 0)
    network: Autoencoder = fit_autoencoder(matrix(honest, model.inputs), model.network)
    return (
        network.error(matrix(parts.train, model.inputs)),
        network.error(matrix(parts.test, model.inputs)),
    )


def matrix(rows: pl.DataFrame, inputs: tuple[str, ...]) -> Floats:
    """Inputs as floats, (n, inputs); NaN where there is none."""
    return rows.select(pl.col(inputs).cast(pl.Float64)).to_numpy()


def _forest(
    inputs: Floats, fraud: Floats, test_inputs: Floats, model: Forest, threads: int
) -> Floats:
    forest = RandomForestClassifier(
        model.trees,
        max_depth=model.depth,
        min_samples_leaf=model.min_leaf,
        class_weight="balanced_subsample" if model.imbalance == "balanced" else None,
        random_state=model.seed,
        n_jobs=threads,
    ).fit(np.nan_to_num(inputs, nan=_ABSENT), fraud)
    forest.set_params(n_jobs=1)  # threads would add the trees up in any order: other last bits
    chances: Floats = forest.predict_proba(np.nan_to_num(test_inputs, nan=_ABSENT))[:, 1]
    return chances


def _boosted(
    inputs: Floats, fraud: Floats, test_inputs: Floats, model: Boosted, threads: int
) -> Floats:
    scores = []
    for seed in range(model.seeds):
        booster = lgb.train(
            {
                "objective": "binary",
                "learning_rate": model.learning_rate,
                "num_leaves": model.leaves,
                "min_data_in_leaf": model.min_leaf,
                "lambda_l2": model.l2,
                "feature_fraction": model.input_share,
                "bagging_fraction": model.row_share,
                "bagging_freq": 1,
                "is_unbalance": model.imbalance == "balanced",
                "seed": seed,
                "num_threads": threads,
                "deterministic": True,
                "force_row_wise": True,  # the automatic choice depends on timing
                "verbosity": -1,
            },
            lgb.Dataset(inputs, fraud),
            num_boost_round=model.rounds,
        )
        scores.append(booster.predict(test_inputs, num_threads=threads))
    mean: Floats = np.mean(scores, axis=0)
    return mean


def thinned(fraud: Floats, seed: int) -> tuple[npt.NDArray[np.intp], float]:
    """Places of all frauds and of some honest rows, in order, and the share of honest ones kept."""
    frauds, honest = np.flatnonzero(fraud == 1), np.flatnonzero(fraud == 0)
    wanted = min(len(honest), HONEST_A_FRAUD * len(frauds))
    kept = np.random.default_rng(seed).choice(honest, wanted, replace=False)
    return np.sort(np.concatenate([frauds, kept])), wanted / max(1, len(honest))


def as_without_thinning(chances: Floats, honest_kept: float) -> Floats:
    """The chances where honest rows are as many as they are; the order of rows stays.

    Source: Dal Pozzolo et al., Calibrating Probability with Undersampling for Unbalanced
    Classification, 2015, eq. 4.
    """
    corrected: Floats = honest_kept * chances / (honest_kept * chances + 1.0 - chances)
    return corrected


def imbalanced(model: Forest | Boosted, imbalance: Imbalance) -> Forest | Boosted:
    """The same model with the classes treated otherwise."""
    return replace(model, imbalance=imbalance)
