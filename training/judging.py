"""A trained model before its judge: the champion, or the baseline where there is none."""

from __future__ import annotations

from dataclasses import dataclass

from training.candidate import Candidate
from training.champion import Champion
from training.evaluation.gate import (
    Decision,
    HeldOut,
    Tolerance,
    holds_against_champion,
)
from training.evaluation.metrics import Metric


@dataclass(frozen=True)
class Trained:
    """A model with what its judgement needs.

    Attributes:
        candidate: what would be registered.
        metric: the primary one.
        held_out: the test part, with the model's and the baseline's predictions.
        baseline: the baseline's name.
        against_baseline: whether it beats that.
        counts: examples, train, validation, test and others.
        tolerance: how much worse than a champion it may be.
        resamples, seed: of the bootstrap.
    """

    candidate: Candidate
    metric: Metric
    held_out: HeldOut
    baseline: str
    against_baseline: Decision
    counts: dict[str, int]
    tolerance: Tolerance
    resamples: int
    seed: int

    @property
    def verdict(self) -> str:
        """The judgement against the baseline, in a sentence."""
        return self.against_baseline.verdict

    @property
    def beats_baseline(self) -> bool:
        """Whether the model is surely better than its baseline."""
        return self.against_baseline.promote


def judge(trained: Trained, champion: Champion | None) -> Decision:
    """Whether the model may serve: against the champion where there is one that can be judged.

    A champion is judged on the candidate's own test rows, with the features of its own inputs;
    one that asks for features that are not among them, or predicts something else, cannot be.
    """
    if champion is None or not champion.can_judge(trained):
        return trained.against_baseline
    return holds_against_champion(
        trained.metric,
        trained.held_out,
        f"champion version {champion.version}",
        champion.predict(trained.held_out.frame),
        trained.tolerance,
        resamples=trained.resamples,
        seed=trained.seed,
    )
