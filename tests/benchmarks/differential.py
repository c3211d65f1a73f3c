"""Live, backfill and read-time against the two-loop oracle, in 10,000 random cases.

    python -m tests.benchmarks.differential [--json] [--examples N] [--seed N]

The tests run 300 of these cases, always the same ones; this runs others each time, and prints its
seed first. A failure is shrunk to a small case and printed; with `--json` the last line is one JSON
object, and the exit status is 1 after a failure.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis.strategies import SearchStrategy

from tests.benchmarks.machine import commit, hardware

EXAMPLES = 10_000
TILED_SHARE = 5  # every fifth case has tiles


def main(argv: list[str]) -> int:
    """Run the comparison; 1 if a case failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--examples", type=int, default=EXAMPLES)
    parser.add_argument("--seed", type=int, default=None, help="repeat the cases of that seed")
    arguments = parser.parse_args(argv)
    chosen = secrets.randbelow(2**32) if arguments.seed is None else arguments.seed

    from tests.feature_repo.engine.cases import Case, cases, tiled_cases
    from tests.feature_repo.engine.checks import check_case, check_tiled_case

    print(f"commit: {commit()}")
    print(f"hardware: {hardware()}")
    print(f"seed: {chosen}")
    began = time.perf_counter()
    counts = {"cases": 0, "events": 0}
    tiled = arguments.examples // TILED_SHARE

    def counted(check: Callable[[Case], None]) -> Callable[[Case], None]:
        def run(case: Case) -> None:
            counts["cases"] += 1
            counts["events"] += len(case.arrived)
            check(case)

        return run

    failures = _failures(counted(check_case), cases(), arguments.examples - tiled, chosen)
    failures += _failures(counted(check_tiled_case), tiled_cases(), tiled, chosen)
    result = {
        "benchmark": "differential",
        "seed": chosen,
        **counts,
        "failures": failures,
        "seconds": round(time.perf_counter() - began, 1),
    }
    print(json.dumps(result) if arguments.json else result)
    return 1 if failures else 0


def _failures(
    check: Callable[[Any], None], strategy: SearchStrategy[Any], examples: int, chosen: int
) -> int:
    """Run a check over so many examples; the number of different failures, printed."""

    @seed(chosen)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(case: Any) -> None:
        check(case)

    try:
        run()
    except ExceptionGroup as group:
        traceback.print_exc()
        return len(group.exceptions)
    except Exception:
        # Whatever a case raises is what this looks for.
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
