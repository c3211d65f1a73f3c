"""The figures of the card-fraud benchmark, of a fold and over folds, and how sure a gain is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import polars as pl

from training.evaluation.bootstrap import Interval, paired_interval
from training.evaluation.metrics import AVERAGE_PRECISION, ROC_AUC, Floats, RankMetric, Weighted
from training.evaluation.ranking import card_precision


@dataclass(frozen=True)
class Figures:
    """Average precision, ROC AUC, card precision@100."""

    ap: float
    auc: float
    cp100: float

    @classmethod
    def of(cls, test: pl.DataFrame, scores: Floats) -> Figures:
        """Those of a fold's test rows."""
        fraud = test["fraud"].to_numpy()
        days = (test["date"] - date(1970, 1, 1)).dt.total_days().to_numpy()
        return cls(
            AVERAGE_PRECISION(fraud, scores),
            ROC_AUC(fraud, scores),
            card_precision(days, test["card"].to_numpy(), fraud, scores, k=100),
        )

    @classmethod
    def mean(cls, folds: Sequence[Figures]) -> Figures:
        """Over folds."""
        table = np.array([[each.ap, each.auc, each.cp100] for each in folds]).mean(axis=0)
        return cls(*(float(value) for value in table))

    def __str__(self) -> str:
        return f"{self.ap:.4f}  {self.auc:.4f}  {self.cp100:.4f}"

    def rounded(self) -> Mapping[str, float]:
        """For JSON."""
        return {"ap": round(self.ap, 4), "auc": round(self.auc, 4), "cp100": round(self.cp100, 4)}


@dataclass(frozen=True)
class MeanOverFolds:
    """A ranking metric, each fold by itself, and their mean: scores of two folds do not mix.

    `folds` numbers each row's fold, (n,).
    """

    metric: RankMetric
    folds: npt.NDArray[np.int64]
    higher_is_better: bool = True

    @property
    def name(self) -> str:
        """As in MLflow."""
        return f"mean_{self.metric.name}"

    def __call__(self, target: Floats, prediction: Floats) -> float:
        """See `Metric`."""
        parts = [self.folds == fold for fold in np.unique(self.folds)]
        return float(np.mean([self.metric(target[part], prediction[part]) for part in parts]))

    def clustered(
        self, target: Floats, prediction: Floats, clusters: npt.NDArray[np.int64], count: int
    ) -> Weighted:
        """See `Metric`: a card that is drawn is drawn in all folds."""
        parts = [self.folds == fold for fold in np.unique(self.folds)]
        sides = [
            self.metric.clustered(target[part], prediction[part], clusters[part], count)
            for part in parts
        ]
        return lambda drawn: float(np.mean([side(drawn) for side in sides]))


def gain(
    tests: Sequence[pl.DataFrame],
    ours: Sequence[Floats],
    theirs: Sequence[Floats],
    *,
    resamples: int = 1_000,
    seed: int = 7,
) -> Interval:
    """95 % interval of the gain in mean average precision, by paired draws of whole cards."""
    rows = pl.concat(tests)
    metric = MeanOverFolds(
        AVERAGE_PRECISION, np.repeat(np.arange(len(tests)), [test.height for test in tests])
    )
    return paired_interval(
        metric,
        rows["fraud"].to_numpy(),
        np.concatenate(ours),
        np.concatenate(theirs),
        rows["card"].to_numpy(),
        resamples=resamples,
        seed=seed,
    )
