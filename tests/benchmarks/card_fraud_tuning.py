"""What the choices of the card-fraud benchmark were made by: alternatives on the tuning folds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl

from tests.benchmarks.card_fraud_inputs import BOOK, CARD, OURS, TERMINAL
from tests.benchmarks.card_fraud_judge import Figures
from tests.benchmarks.card_fraud_models import (
    REFERENCE,
    Boosted,
    Forest,
    Unsupervised,
    imbalanced,
    supervised,
    unsupervised,
)
from tests.benchmarks.card_fraud_split import TUNING, Parts, split
from training.evaluation.metrics import Floats


def compare(frame: pl.DataFrame, threads: int) -> dict[str, dict[str, float]]:
    """Every alternative's mean over the four tuning folds; no test fold is looked at."""
    found: dict[str, list[Figures]] = {}
    for fold in TUNING:
        parts = split(frame, fold)
        for name, scores in _alternatives(parts, threads):
            found.setdefault(name, []).append(Figures.of(parts.test, scores))
            print(f"{fold}  {name:44s}  {found[name][-1]}", flush=True)
    means = {name: Figures.mean(figures) for name, figures in found.items()}
    for name, mean in means.items():
        print(f"mean        {name:44s}  {mean}", flush=True)
    return {name: dict(mean.rounded()) for name, mean in means.items()}


def _alternatives(parts: Parts, threads: int) -> Iterator[tuple[str, Floats]]:
    """Name and scores of the test rows, one alternative after the other."""
    for depth in (5, 10, 20, None):
        model = replace(REFERENCE, depth=depth)
        yield f"book's forest, depth {depth}", supervised(parts, model, threads)
    more_of = {
        "book's 15": BOOK,
        "book's 15 and the card's": tuple(dict.fromkeys(BOOK + CARD)),
        "book's 15 and the terminal's": tuple(dict.fromkeys(BOOK + TERMINAL)),
        "all, with the book's counts and times": tuple(dict.fromkeys(BOOK + OURS)),
    }
    for name, inputs in more_of.items():
        for model_name, member in (("forest", Forest(inputs)), ("LightGBM", Boosted(inputs))):
            yield f"{model_name}, {name}", supervised(parts, member, threads)

    members: dict[str, Forest | Boosted] = {"forest": Forest(), "LightGBM": Boosted()}
    scores = {name: supervised(parts, member, threads) for name, member in members.items()}
    for name, each in scores.items():
        yield name, each
    yield "forest, leaves of 1", supervised(parts, Forest(min_leaf=1), threads)
    yield "forest, leaves of 5", supervised(parts, Forest(min_leaf=5), threads)
    yield "LightGBM, more regular (l2 10)", supervised(parts, Boosted(l2=10.0), threads)
    yield "LightGBM, 16 leaves", supervised(parts, Boosted(leaves=16), threads)
    for name, member in members.items():
        for imbalance in ("balanced", "undersampled"):
            changed = imbalanced(member, imbalance)
            scores[f"{name}, {imbalance}"] = supervised(parts, changed, threads)
            yield f"{name}, {imbalance}", scores[f"{name}, {imbalance}"]
    thinned = ("forest, undersampled", "LightGBM, undersampled")
    for name, blend in {
        "blend: forest, LightGBM": ("forest", "LightGBM"),
        "blend: forest, LightGBM undersampled": ("forest", thinned[1]),
        "blend: forest, both undersampled (chosen)": ("forest", *thinned),
    }.items():
        yield name, np.mean([scores[each] for each in blend], axis=0)

    train_error, test_error = unsupervised(parts, Unsupervised())
    yield "autoencoder alone", test_error
    for name, member in members.items():
        error = (train_error, test_error)
        yield f"{name} with the autoencoder's error", supervised(parts, member, threads, error)
