"""Whether a learner that was judged as it went beats its baselines, judged in the same way."""

from __future__ import annotations

from training.evaluation.gate import Decision
from training.evaluation.metrics import RMSE
from training.running_errors import Errors


def decided(
    errors: Errors, ours: str, baselines: tuple[str, str], *, resamples: int, seed: int
) -> tuple[Decision, dict[str, float]]:
    """The decision, named after the stronger of both baselines, and all figures.

    Args:
        errors: of the learner and both baselines.
        ours: the learner's name.
        baselines: a mean, and the Weibull expectation; it must surely beat both.
        resamples, seed: of the bootstrap.
    """
    intervals = {
        name: errors.difference(ours, name, resamples=resamples, seed=seed) for name in baselines
    }
    stronger = min(intervals, key=errors.rmse)
    better = all(interval.below_zero for interval in intervals.values())
    mine, theirs = errors.rmse(ours), errors.rmse(stronger)
    verdict = (
        f"prequential rmse {mine:.4f} of {errors.sessions:,} sessions "
        f"{'beats' if better else 'does not surely beat'} "
        + " and ".join(
            f"{name}'s {errors.rmse(name):.4f} (95 % interval {interval})"
            for name, interval in intervals.items()
        )
    )
    decision = Decision(better, stronger, RMSE.name, mine, theirs, intervals[stronger], (verdict,))
    mean, weibull = baselines
    return decision, {
        "rmse": mine,
        "baseline_rmse": errors.rmse(mean),
        "weibull_rmse": errors.rmse(weibull),
        "rmse_difference_low": intervals[mean].low,
        "rmse_difference_high": intervals[mean].high,
        "weibull_difference_low": intervals[weibull].low,
        "weibull_difference_high": intervals[weibull].high,
    }
