"""What every boosted model's `train` shares: its data set cut by time, and what comes of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import polars as pl

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.model_files import Answer, Calibration
from feature_repo.contracts.model_inputs import ModelInputs, learn_categories
from feature_repo.scoring.scorers import Trees
from training.boosting import BoostedConfig
from training.candidate import Candidate, Matrix, golden_rows
from training.dataset import Examples
from training.evaluation.gate import Decision, HeldOut
from training.evaluation.metrics import Floats, Metric
from training.evaluation.slices import as_clusters, new_customers
from training.importance import importance_picture
from training.judging import Trained
from training.split import TimeSplit, split_by_time

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """Examples cut by time, encoded as the model is fed them.

    Attributes:
        name: the model's, and its feature service's.
        examples: what `build` gave.
        config: how to train and judge.
        split: train, validation and test, as slices.
        inputs: with the categories of the training part; what it never saw is missing.
        matrix: (n, width) of all examples.
        began: `time.perf_counter` when work on it began.
    """

    name: str
    examples: Examples
    config: BoostedConfig
    split: TimeSplit
    inputs: ModelInputs
    matrix: Matrix
    began: float

    @classmethod
    def of(cls, name: str, examples: Examples, config: BoostedConfig) -> Prepared:
        """Cut and encode.

        Raises:
            DatasetError: a part of the split is empty.
        """
        began = time.perf_counter()
        frame = examples.dataset.frame
        split = split_by_time(
            frame["event_timestamp"],
            validation=config.validation_share,
            test=config.test_share,
            gap=config.gap,
        )
        inputs = ModelInputs(name, learn_categories(examples.dataset.inputs, frame[split.train]))
        return cls(name, examples, config, split, inputs, inputs.matrix(frame), began)

    @property
    def frame(self) -> pl.DataFrame:
        """All examples, by time."""
        return self.examples.dataset.frame

    @property
    def tested(self) -> pl.DataFrame:
        """The test part: the latest examples, which nothing has seen."""
        return self.frame[self.split.test]

    def column(self, field: str, name: str, such_as: str) -> pl.Series:
        """A column that the configuration names in one of its fields.

        Raises:
            DatasetError: there is no such column.
        """
        if name not in self.frame.columns:
            raise DatasetError(
                field, name, f"a feature of the {self.name} service, such as {such_as}", "name one"
            )
        return self.frame[name]

    def held_out(
        self,
        target: Floats,
        prediction: Floats,
        baseline: Floats,
        *,
        corridor: str = "session_corridor_last",
        channel: str = "session_channel_last",
        binary: bool = False,
    ) -> HeldOut:
        """The test part with both sides' predictions: (n,) or (n, classes) each.

        Args:
            corridor, channel: the columns that say so, for the slices.
            binary: whether targets are events.
        """
        tested = self.tested
        return HeldOut(
            frame=tested,
            target=target,
            prediction=prediction,
            baseline=baseline,
            clusters=as_clusters(tested["customer_id"]),
            groups={
                "corridor": tested[corridor],
                "channel": tested[channel],
                "customer": new_customers(tested["tenure_days"]),
            },
            binary=binary,
        )

    def trained(
        self,
        scorer: Trees,
        metric: Metric,
        held_out: HeldOut,
        decision: Decision,
        *,
        target: str,
        unit: str,
        title: str,
        card: str,
        metrics: Mapping[str, float],
        importance: pl.DataFrame,
        target_transform: str = "",
        calibration: Calibration | None = None,
        answer: Answer | None = None,
        params: Mapping[str, object] | None = None,
        pictures: Mapping[str, bytes] | None = None,
        tables: Mapping[str, pl.DataFrame] | None = None,
        files: Mapping[str, bytes] | None = None,
        report: Callable[[str], None] = log.info,
    ) -> Trained:
        """The model with all that its version will say of it; `report` gets the verdict.

        Args:
            scorer, metric, held_out: the model, and what it is judged by.
            decision: against the baseline that it beats by least.
            target, unit, target_transform, calibration, answer, card: see `Candidate`.
            title: of its pictures.
            metrics: its figures; those of the work, and the counts, are added.
            importance: table of `training.importance`.
            params: beside the configuration.
            pictures, tables, files: further ones.
        """
        dataset, split = self.examples.dataset, self.split
        counts = self.examples.counts | split.counts()
        trees, seconds = scorer.booster.num_trees(), time.perf_counter() - self.began
        candidate = Candidate(
            inputs=self.inputs,
            scorer=scorer,
            target=target,
            target_transform=target_transform,
            unit=unit,
            metric_name=metric.name,
            metric_value=decision.ours,
            metrics={
                **metrics,
                "trees": float(trees),
                "training_s": seconds,
                **{f"{name}_rows": float(count) for name, count in counts.items()},
            },
            params={
                **asdict(self.config),
                "validation_start": split.validation_start.isoformat(),
                "test_start": split.test_start.isoformat(),
                "absent_views": ",".join(dataset.absent_views),
                **(params or {}),
            },
            window=self.examples.window,
            data_fingerprint=dataset.fingerprint,
            importance=importance,
            pictures={
                "importance.png": importance_picture(importance, f"{title}: importance of inputs"),
                **(pictures or {}),
            },
            tags={"baseline": decision.against},
            examples=golden_rows(self.matrix[split.test]),
            calibration=calibration,
            card=card,
            tables=dict(tables or {}),
            files=dict(files or {}),
            answer=answer,
        )
        report(f"{decision.verdict} ({trees} trees, {seconds:.1f} s)")
        return Trained(
            candidate=candidate,
            metric=metric,
            held_out=held_out,
            baseline=decision.against,
            against_baseline=decision,
            counts=counts,
            tolerance=self.config.tolerance,
            resamples=self.config.bootstrap_resamples,
            seed=self.config.seed,
        )
