from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from training.evaluation.bootstrap import paired_interval
from training.evaluation.metrics import RMSE
from training.prequential import Prequential
from training.running_baselines import RunningMean
from training.running_errors import Errors, Floats, Judged


@dataclass
class Diary:
    """A learner that predicts how much it has learnt, and writes down what it is given."""

    lines: list[tuple[str, list[float]]] = field(default_factory=list)
    learnt: int = 0

    def predict(self, rows: Floats) -> Floats:
        self.lines.append(("predict", rows[:, 0].tolist()))
        return np.full(len(rows), float(self.learnt))

    def learn(self, rows: Floats, target: Floats) -> None:
        assert (rows[:, 0] * 10 == target).all(), "each row with its own target"
        self.lines.append(("learn", rows[:, 0].tolist()))
        self.learnt += len(rows)


def sessions(rows: list[float]) -> tuple[Floats, np.ndarray, np.ndarray]:
    names = np.array([f"c{int(row):05d}" for row in rows], dtype=object)
    return np.array(rows).reshape(-1, 1), names, np.array(rows, dtype=np.int64)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def step(judge: Prequential, begun: list[int], closed: dict[int, int], joined: list[int]) -> None:
    judge.step(
        ints(*begun),
        sessions([float(place) for place in begun]),
        (ints(*closed), ints(*closed.values()), np.array(list(closed), dtype=float) * 10),
        ints(*joined),
    )


def test_each_is_predicted_as_it_begins_and_learnt_from_once_closed() -> None:
    diary = Diary()
    judge = Prequential({"diary": diary}, micro_batch=2, burn_in=0, latest=10)
    # Session -> where it closes: 0 and 1 make a micro-batch at place 5, between 4 and 6.
    step(judge, [0, 1, 2, 4, 6, 8], {0: 3, 1: 5, 4: 7}, [])
    assert diary.lines == [
        ("predict", [0, 1, 2, 4]),
        ("learn", [0, 1]),
        ("predict", [6]),
        ("predict", [8]),
    ]
    step(judge, [9], {2: 10}, [])
    assert diary.lines[4:] == [("predict", [9]), ("learn", [4, 2])]
    latest = judge.latest()
    assert latest is not None
    assert latest.predictions[:, 0].tolist() == [0, 0, 0, 0]
    step(judge, [], {9: 12, 8: 13}, [])
    latest = judge.latest()
    assert latest is not None
    assert latest.predictions[:, 0].tolist() == [0, 0, 0, 0, 2, 2]
    assert (judge.closed, judge.trained, judge.open) == (6, 6, 1)


def test_what_is_open_joined_or_unknown_counts_neither_way() -> None:
    diary = Diary()
    judge = Prequential({"diary": diary}, micro_batch=2, burn_in=0, latest=10)
    step(judge, [0, 1, 2, 3], {0: 4, 77: 5}, [2])
    assert judge.errors.sessions == judge.closed == 1
    assert judge.open == 2
    assert not any(kind == "learn" for kind, _ in diary.lines)
    step(judge, [], {1: 8}, [])
    assert [rows for kind, rows in diary.lines if kind == "learn"] == [[0, 1]]


def random_stream(seed: int, changed_from: int | None = None) -> tuple[Judged, Prequential]:
    """Three hundred sessions, in batches of 50; targets of what closes later may be others."""
    rng = np.random.default_rng(seed)
    count = 300
    group = rng.integers(0, 3, count).astype(float)
    closes = np.arange(count) + rng.integers(1, 40, count)
    target = group + rng.normal(0, 1, count)
    if changed_from is not None:
        target = np.where(closes >= changed_from, target + 100.0, target)
    judge = Prequential({"mean": RunningMean(0)}, micro_batch=16, burn_in=20, latest=count)
    for first in range(0, 400, 50):
        begun = np.arange(first, min(first + 50, count))
        done = np.flatnonzero((closes >= first) & (closes < first + 50))
        done = done[np.argsort(closes[done], kind="stable")]
        customers = np.array([f"c{place % 40:02d}" for place in begun], dtype=object)
        judge.step(
            begun,
            (group[begun][:, None], customers, begun.astype(np.int64)),
            (done, closes[done], target[done]),
            ints(),
        )
    latest = judge.latest()
    assert latest is not None
    return latest, judge


def test_a_later_label_cannot_change_an_earlier_prediction() -> None:
    plain, _ = random_stream(1)
    changed, _ = random_stream(1, changed_from=150)
    assert (plain.began_us == changed.began_us).all()
    earlier = plain.began_us < 150
    assert (plain.predictions[earlier] == changed.predictions[earlier]).all()
    # ... and it does change later ones: the test could fail.
    assert (
        plain.predictions[plain.began_us > 200] != changed.predictions[plain.began_us > 200]
    ).all()


def test_the_burn_in_is_learnt_from_and_not_judged() -> None:
    latest, judge = random_stream(2)
    assert judge.closed == 300
    assert judge.errors.sessions == len(latest) == 280
    assert judge.trained == 288, "whole micro-batches"


def test_sums_say_what_rows_say() -> None:
    latest, judge = random_stream(3)
    both = Errors(("mean", "zero"))
    shown = Judged(
        latest.rows,
        latest.target,
        np.c_[latest.predictions, np.zeros(len(latest))],
        latest.customers,
        latest.began_us,
    )
    order = np.argsort(latest.customers.astype(str), kind="stable")
    sides = shown.predictions[order]
    # In customers' order, as rows are numbered: the same draws.
    both.add(shown.at(order[:100]))
    both.add(shown.at(order[100:]))
    assert both.rmse("mean") == pytest.approx(RMSE(latest.target, latest.predictions[:, 0]))
    assert judge.errors.rmse("mean") == pytest.approx(both.rmse("mean"))
    clusters = np.unique(latest.customers.astype(str)[order], return_inverse=True)[1]
    found = both.difference("mean", "zero", resamples=200, seed=4)
    rows = paired_interval(
        RMSE, latest.target[order], sides[:, 0], sides[:, 1], clusters.astype(np.int64),
        resamples=200, seed=4,
    )  # fmt: skip
    assert (found.low, found.high) == pytest.approx((rows.low, rows.high))


def test_errors_over_time_stay_few() -> None:
    errors = Errors(("m",), stretch=2)
    rng = np.random.default_rng(5)
    wrong = rng.normal(size=3_000)
    for first in range(0, 3_000, 7):
        some = slice(first, first + 7)
        count = len(wrong[some])
        errors.add(
            Judged(
                np.zeros((count, 1)),
                np.zeros(count),
                wrong[some][:, None],
                np.array(["c"] * count, dtype=object),
                np.arange(count, dtype=np.int64) + first,
            )
        )
    table = errors.over_time()
    assert table.height <= 400
    assert table["sessions"].sum() == errors.sessions == 3_000
    assert table["until"].is_sorted()
    total = (table["m"] ** 2 * table["sessions"]).sum()
    assert total == pytest.approx((wrong**2).sum())
    size = int(table["sessions"][0])
    assert table["m"][0] == pytest.approx(np.sqrt((wrong[:size] ** 2).mean()))


def test_only_the_latest_are_kept() -> None:
    diary = Diary()
    judge = Prequential({"diary": diary}, micro_batch=4, burn_in=0, latest=5)
    assert judge.latest() is None
    step(judge, list(range(20)), {place: 20 + place for place in range(20)}, [])
    latest = judge.latest()
    assert latest is not None
    assert latest.began_us.tolist() == [15, 16, 17, 18, 19]
