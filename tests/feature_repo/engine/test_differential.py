"""The engine against the two-loop oracle, over random definitions and events.

300 cases here; `python -m tests.benchmarks.differential` runs 10,000.
"""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings

from tests.feature_repo.engine.cases import Case, cases, tiled_cases
from tests.feature_repo.engine.checks import check_case, check_tiled_case

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=240, deadline=None, derandomize=True, suppress_health_check=_SLOW)
@given(cases())
def test_live_backfill_and_reads_equal_the_oracle(case: Case) -> None:
    check_case(case)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=_SLOW)
@given(tiled_cases())
def test_tiles_equal_the_oracle_of_tiles(case: Case) -> None:
    check_tiled_case(case)
