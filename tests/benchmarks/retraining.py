"""Retraining the default model on a million sessions: data set, training, registering, memory.

    python -m tests.benchmarks.retraining [--json] [--quick]

1,000,000 synthetic sessions of 320,000 customers in some 2,600,000 events, with daily rows of the
three batch views (16 days). The steps are those of `training.retraining.retrain`, timed apart; the
peak is that of this process, which made the world in another one. The last line is one JSON object:
`dataset_s`, `training_s`, `register_s`, `peak_mb`, `rows`, `rmse`, `baseline_rmse`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.machine import commit, hardware

SESSIONS, CUSTOMERS, DAYS = 1_020_000, 320_000, 16
_NAME = "session_duration"


def make(home: str, sessions: int, customers: int) -> None:
    """The archive, the batch tables and an applied registry."""
    from tests.applied import apply_definitions
    from tests.training.sessions import (
        session_events,
        settings_at,
        write_archive,
        write_batch_tables,
    )

    settings = settings_at(Path(home))
    write_archive(settings, session_events(sessions, customers, days=DAYS))
    write_batch_tables(settings, customers, days=DAYS)
    apply_definitions(settings)


def retrain(home: Path) -> dict[str, Any]:
    """The steps, timed."""
    from tests.training.sessions import settings_at
    from training.candidate import identity_of
    from training.champion import load_champion
    from training.configuration import config_fingerprint, load_config
    from training.judging import judge
    from training.models import model_named
    from training.registry import register

    settings = settings_at(home)
    module = model_named(_NAME)
    config = load_config(module.Config, _NAME)
    marks = [time.perf_counter()]
    examples = module.build(settings, None, None, config)
    marks.append(time.perf_counter())
    trained = module.train(examples, config, print)
    decision = judge(trained, load_champion(settings, _NAME))
    marks.append(time.perf_counter())
    identity = identity_of(_NAME, examples.dataset.fingerprint, config_fingerprint(config))
    register(settings, trained.candidate, decision, identity)
    marks.append(time.perf_counter())
    dataset_s, training_s, register_s = (
        round(later - earlier, 1) for earlier, later in itertools.pairwise(marks)
    )
    return {
        "dataset_s": dataset_s,
        "training_s": training_s,
        "register_s": register_s,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "rows": examples.dataset.frame.height,
        "inputs": len(examples.dataset.inputs),
        "trees": int(trained.candidate.metrics["trees"]),
        "rmse": round(trained.candidate.metrics["rmse"], 4),
        "baseline_rmse": round(trained.candidate.metrics["baseline_rmse"], 4),
    }


def main(argv: list[str]) -> int:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="the last line is JSON either way")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the sessions")
    options = parser.parse_args(argv)
    os.environ.update(DO_NOT_TRACK="1", FEAST_USAGE="False", MLFLOW_DISABLE_TELEMETRY="true")
    part = 20 if options.quick else 1
    with tempfile.TemporaryDirectory() as folder:
        world = multiprocessing.get_context("spawn").Process(
            target=make, args=(folder, SESSIONS // part, CUSTOMERS // part)
        )
        world.start()
        world.join()
        if world.exitcode:
            raise RuntimeError("the world could not be made")
        found = retrain(Path(folder))
    print(json.dumps({**found, "hardware": hardware(), "commit": commit()}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
