from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from feature_repo.contracts.events import OUTSIDE_SESSION
from streaming.simulator import load_world, simulate

START = datetime(2025, 6, 2, tzinfo=UTC)


@pytest.fixture(scope="session")
def whole_log() -> pa.Table:
    """Some thousand events of two days, with the balances, calls, reports and labels."""
    return simulate(
        load_world(), customers=400, start=START, end=START + timedelta(days=2), seed=3
    ).events.combine_chunks()


@pytest.fixture(scope="session")
def simulated(whole_log: pa.Table) -> pa.Table:
    """The events of sessions among them."""
    outside = pc.is_in(whole_log["event_type"], pa.array(sorted(OUTSIDE_SESSION)))
    return whole_log.filter(pc.invert(outside)).combine_chunks()


@pytest.fixture
def event_file(tmp_path: Path, simulated: pa.Table) -> Path:
    path = tmp_path / "events.parquet"
    pq.write_table(simulated, path, row_group_size=500)
    return path
