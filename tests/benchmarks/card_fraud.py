"""Card fraud: the handbook's splits, features of our engine, against the book's own forest.

    python -m tests.benchmarks.card_fraud [--json] [--threads 2]
    python -m tests.benchmarks.card_fraud --tuning        # what the choices were made by

A blend of a forest and LightGBM is trained a week, waits a week for labels and is judged on the
next; the random forest on the book's 15 inputs beside it, on the same rows. `single` is the fold
that starts 2018-07-25, `prequential` the mean of the four test folds. Nothing was chosen on them:
`--tuning` prints every alternative that was measured, on the four earlier folds only. Needs
`../shared/data/fraud_fdh`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks.machine import commit, hardware

if TYPE_CHECKING:
    import polars as pl


def judge(frame: pl.DataFrame, threads: int) -> dict[str, Any]:
    """Each test fold, their mean, and the gain over the reference."""
    from tests.benchmarks.card_fraud_judge import Figures, gain
    from tests.benchmarks.card_fraud_models import (
        BLEND,
        REFERENCE,
        Unsupervised,
        blended,
        supervised,
        unsupervised,
    )
    from tests.benchmarks.card_fraud_split import SINGLE, TEST, split

    names = ("ours", "reference_forest", "autoencoder")
    print("training from  model             AP      AUC     CP@100", flush=True)
    tests: list[pl.DataFrame] = []
    scores: dict[str, list[Any]] = {name: [] for name in names}
    figures: dict[str, list[Figures]] = {name: [] for name in names}
    folds = []
    for fold in TEST:
        parts = split(frame, fold)
        tests.append(parts.test)
        found = (
            blended(parts, BLEND, threads),
            supervised(parts, REFERENCE, threads),
            unsupervised(parts, Unsupervised())[1],
        )
        for name, each in zip(names, found, strict=True):
            scores[name].append(each)
            figures[name].append(Figures.of(parts.test, each))
            print(f"{fold}     {name:16s}  {figures[name][-1]}", flush=True)
        sides = ([parts.test], scores["ours"][-1:], scores["reference_forest"][-1:])
        interval = gain(*sides)
        print(f"{fold}     gain in AP over the forest {interval}", flush=True)
        folds.append(
            {
                "train_from": str(fold),
                "train": [parts.train.height, int(parts.train["fraud"].sum())],
                "test": [parts.test.height, int(parts.test["fraud"].sum())],
                **{name: figures[name][-1].rounded() for name in names},
                "gain_ap_interval_95": [round(interval.low, 4), round(interval.high, 4)],
            }
        )
    mean = {name: Figures.mean(figures[name]) for name in names}
    for name in names:
        print(f"mean of four   {name:16s}  {mean[name]}")
    interval = gain(tests, scores["ours"], scores["reference_forest"])
    print(f"mean of four   gain in AP over the forest {interval}", flush=True)
    at = TEST.index(SINGLE)

    def both(name: str) -> dict[str, Any]:
        return {"single": figures[name][at].rounded(), "prequential": mean[name].rounded()}

    def rounded(name: str) -> dict[str, Any]:
        return dict(both("ours")[name])

    return {
        "single": rounded("single")
        | {key: folds[at][key] for key in ("train", "test", "gain_ap_interval_95")},
        "prequential": rounded("prequential")
        | {"gain_ap_interval_95": [round(interval.low, 4), round(interval.high, 4)]},
        "reference_forest": both("reference_forest"),
        "autoencoder": both("autoencoder"),
        "folds": folds,
    }


def main(argv: list[str]) -> int:
    """Run the benchmark; exit 2 without the data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--threads", type=int, default=2, help="of every model")
    parser.add_argument("--tuning", action="store_true", help="the alternatives, on earlier folds")
    arguments = parser.parse_args(argv)

    from tests.benchmarks.card_fraud_inputs import TRANSACTIONS, computed, with_ratios

    if not TRANSACTIONS.is_file():
        print("the card transactions are not there (../shared/data/fraud_fdh): nothing to do")
        return 2
    print(f"commit: {commit()}\nhardware: {hardware()}", flush=True)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        frame = with_ratios(computed(Path(work)))
    features_s = time.perf_counter() - began
    print(f"features of {frame.height:,} transactions in {features_s:.0f} s", flush=True)
    if arguments.tuning:
        from tests.benchmarks.card_fraud_tuning import compare

        result: dict[str, Any] = {"tuning": compare(frame, arguments.threads)}
    else:
        result = judge(frame, arguments.threads)
    result = {"benchmark": "card_fraud"} | result
    result["features_s"] = round(features_s, 1)
    result["seconds"] = round(time.perf_counter() - began, 1)
    print(json.dumps(result) if arguments.json else result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
