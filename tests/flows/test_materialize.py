"""The materialisation flow: batch views with rows get online, the others are named."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from feature_repo.contracts.settings import Settings
from feature_repo.stores.feast_store import open_store
from flows.materialize import batch_views, materialize
from tests.applied import apply_definitions
from tests.training.sessions import settings_at

pytestmark = [
    # ibis says this to DuckDB on Feast's way to the rows.
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning"),
    pytest.mark.xdist_group("prefect"),
]


@pytest.fixture
def home(tmp_path: Path, valkey: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    settings = settings_at(tmp_path, redis=valkey)
    apply_definitions(settings)
    for name, value in settings.environment().items():
        if name != "PREFECT_API_URL":
            monkeypatch.setenv(name, value)
    return settings


def write_costs(settings: Settings, at: datetime) -> None:
    folder = settings.batch_table("corridor_costs") / f"event_date={at.date()}"
    folder.mkdir(parents=True)
    pl.DataFrame(
        {
            "corridor": ["GB-NG"],
            "event_timestamp": pl.Series([at], dtype=pl.Datetime("us", "UTC")),
            "cost_pct_usd200": [4.5],
            "cost_pct_usd500": [3.5],
            "fx_margin_pct": [1.5],
            "providers": [9],
        }
    ).write_parquet(folder / "corridor_costs.parquet")


def test_batch_views_are_those_tagged_so(home: Settings) -> None:
    assert batch_views(home) == ["corridor_costs", "customer_financials", "customer_profile"]


@pytest.mark.usefixtures("prefect_server")
def test_rows_get_online(home: Settings) -> None:
    assert materialize() == []  # nothing there is no error
    write_costs(home, datetime.now(UTC) - timedelta(days=1))
    assert materialize() == ["corridor_costs"]
    answer = open_store(home).get_online_features(
        ["corridor_costs:providers", "corridor_costs:fx_margin_pct"], [{"corridor": "GB-NG"}]
    )
    assert answer.to_dict() == {"corridor": ["GB-NG"], "providers": [9], "fx_margin_pct": [1.5]}
