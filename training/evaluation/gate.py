"""May a candidate serve? The decision, with its numbers.

Against a champion: not worse beyond a tolerance, and no slice collapses. The
first model of a kind must surely beat its baseline. A champion that cannot be judged on the
candidate's rows (other inputs) counts as none, and the decision says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
import polars as pl

from training.evaluation.bootstrap import Clusters, Interval, paired_interval
from training.evaluation.metrics import Floats, Metric
from training.evaluation.slices import Slice, slice_table, slices


@dataclass(frozen=True)
class Tolerance:
    """How much worse than the champion a candidate may be, as shares of the champion's metric.

    Attributes:
        overall: of all rows.
        in_a_slice: of a slice's rows; a slice collapses that is worse by more, and surely worse.
    """

    overall: float = 0.01
    in_a_slice: float = 0.10


@dataclass(frozen=True)
class HeldOut:
    """The rows that a candidate is judged on: the latest, which training has not seen.

    Attributes:
        frame: (n) rows with the features, for other models to predict on.
        target: (n,) on the model's scale.
        prediction: (n,) or (n, classes) the candidate's.
        baseline: the same, the baseline's.
        clusters: (n,) customers, as numbers.
        groups: name -> (n,) values: the slices.
        binary: whether targets are events.
    """

    frame: pl.DataFrame
    target: Floats
    prediction: Floats
    baseline: Floats
    clusters: Clusters
    groups: dict[str, pl.Series] = field(default_factory=dict)
    binary: bool = False


@dataclass(frozen=True)
class Decision:
    """Whether a candidate serves, and why.

    Attributes:
        promote: whether it does.
        against: `champion version 3`, or the baseline's name.
        metric: the primary metric's name.
        ours, theirs: its values.
        interval: 95 % of ours - theirs.
        reasons: why not; or why, in one sentence.
        slices: both sides on parts of the rows.
    """

    promote: bool
    against: str
    metric: str
    ours: float
    theirs: float
    interval: Interval
    reasons: tuple[str, ...]
    slices: tuple[Slice, ...] = ()

    @property
    def verdict(self) -> str:
        """The decision in a sentence."""
        return "; ".join(self.reasons)

    def table(self) -> pl.DataFrame:
        """The slices as a table."""
        return slice_table(list(self.slices))

    def to_json(self) -> bytes:
        """All numbers, for the artifact beside the version."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)

    def tags(self) -> dict[str, str]:
        """The same in short, for the version's tags."""
        return {
            "decision": "promoted" if self.promote else "rejected",
            "decision_against": self.against,
            "decision_metric": f"{self.metric} {self.ours:.6g} against {self.theirs:.6g}",
            "decision_interval": str(self.interval),
            "decision_reasons": self.verdict,
        }


def beats_baseline(
    metric: Metric, test: HeldOut, baseline: str, *, resamples: int = 1000, seed: int = 0
) -> Decision:
    """Promote if the whole interval of the difference lies on the better side."""
    interval = paired_interval(
        metric, test.target, test.prediction, test.baseline, test.clusters,
        resamples=resamples, seed=seed,
    )  # fmt: skip
    ours, theirs = metric(test.target, test.prediction), metric(test.target, test.baseline)
    better = interval.above_zero if metric.higher_is_better else interval.below_zero
    verdict = (
        f"{metric.name} {ours:.4f} {'beats' if better else 'does not surely beat'} {baseline}'s "
        f"{theirs:.4f}: difference {ours - theirs:+.4f}, 95 % interval {interval}"
    )
    return Decision(better, baseline, metric.name, ours, theirs, interval, (verdict,))


def closest(metric: Metric, decisions: Mapping[str, Decision]) -> str:
    """Of several baselines, all of which are to be beaten, the one that is beaten by least, or
    not at all."""
    sign = -1.0 if metric.higher_is_better else 1.0
    return min(decisions, key=lambda name: (decisions[name].promote, sign * decisions[name].theirs))


def holds_against_champion(
    metric: Metric,
    test: HeldOut,
    champion: str,
    champions: Floats,
    tolerance: Tolerance,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Decision:
    """Promote unless it is worse beyond the tolerance, or a slice collapses.

    Args:
        champion: its name, such as `champion version 3`.
        champions: its predictions of the same rows.
    """
    target, ours = test.target, test.prediction
    interval = paired_interval(
        metric, target, ours, champions, test.clusters, resamples=resamples, seed=seed
    )
    mine, theirs = metric(target, ours), metric(target, champions)
    sign = 1.0 if metric.higher_is_better else -1.0
    numbers = (
        f"{metric.name} {mine:.4f} against {champion}'s {theirs:.4f}: difference "
        f"{mine - theirs:+.4f}, 95 % interval {interval}"
    )
    reasons = []
    allowed = tolerance.overall * abs(theirs)
    if sign * (mine - theirs) < -allowed:
        reasons.append(f"worse by more than {tolerance.overall:.1%}: {numbers}")
    found = slices(
        test.groups, metric, target, ours, champions, test.clusters, binary=test.binary, seed=seed
    )
    for each in found:
        fallen = sign * (each.ours - each.theirs) < -tolerance.in_a_slice * abs(each.theirs)
        if fallen and _surely_worse(each.interval, sign):
            reasons.append(
                f"{each.name} collapses: {each.ours:.4f} against {each.theirs:.4f} on {each.rows} "
                f"rows, 95 % interval {each.interval}"
            )
    return Decision(
        not reasons, champion, metric.name, mine, theirs, interval,
        tuple(reasons) or (f"holds: {numbers}",), tuple(found),
    )  # fmt: skip


def _surely_worse(interval: Interval, sign: float) -> bool:
    return interval.below_zero if sign > 0 else interval.above_zero
