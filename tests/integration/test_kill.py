"""A killed stream leaves what an undisturbed one leaves, and no reader sees a value go back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kill_run import run_with_kills


@pytest.mark.timeout(240)
def test_five_kills_change_nothing(tmp_path: Path) -> None:
    report = run_with_kills(
        tmp_path, events=60_000, kills=5, keys=1_000, events_per_s=1_500, seed=7
    )
    assert report.kills == 5
    assert report.kills_after_base >= 1
    assert report.keys > 2_000  # customers, counterparties and corridors
    assert report.different_values == 0
    assert report.different_archive_rows == 0
    assert report.values_gone_back == 0
    assert report.samples > 10_000
    assert report.exit_codes == [0, 0]
