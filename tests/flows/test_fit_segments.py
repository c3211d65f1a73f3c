"""The segments' flow: rows in both stores, the same again for the same window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from prefect.client.orchestration import get_client

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.settings import Settings
from feature_repo.stores.feast_store import open_store
from flows.fit_segments import fit_segments_flow
from tests.applied import apply_definitions
from tests.training.sessions import CORRIDORS, START, session_events, settings_at, write_archive

pytestmark = [
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning"),
    pytest.mark.xdist_group("prefect"),
]
# Values too old are not given online: the sessions are moved to the days before now.
END = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)
MIDDLE = START + timedelta(days=5)


@pytest.fixture
def home(tmp_path: Path, valkey: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    settings = settings_at(tmp_path, redis=valkey)
    events = session_events(3_000, 300)
    write_archive(settings, events.with_columns(pl.col("event_time") + (END - MIDDLE)))
    apply_definitions(settings)
    for name, value in settings.environment().items():
        if name != "PREFECT_API_URL":
            monkeypatch.setenv(name, value)
    return settings


def online(settings: Settings, refs: list[str], **key: str) -> dict[str, Any]:
    found: dict[str, Any] = open_store(settings).get_online_features(refs, [key]).to_dict()
    return {name: values[0] for name, values in found.items()}


@pytest.mark.usefixtures("prefect_server")
def test_corridors_and_customers_are_in_both_stores(home: Settings) -> None:
    written = fit_segments_flow(end=END)
    assert written["corridor_durations"] == len(CORRIDORS)
    assert 250 < written["customer_segment"] <= 300
    found = online(
        home, ["corridor_durations:duration_k", "corridor_durations:duration_scale_s"],
        corridor="GB-NG",
    )  # fmt: skip
    assert 0.4 < found["duration_k"] < 1.2
    assert found["duration_scale_s"] > 10
    placed = online(home, ["customer_segment:segment"], customer_id="c7")
    assert placed["segment"] in {"brief", "usual", "long"}

    (file,) = home.batch_table("corridor_durations").rglob("*.parquet")
    rows = pl.read_parquet(file)
    assert rows["event_timestamp"].unique().to_list() == [END]
    entities = pl.DataFrame(
        {
            "corridor": ["GB-NG"] * 2,
            "event_timestamp": [END + timedelta(hours=1), END - timedelta(1)],
        }
    )
    history = open_store(home).get_historical_features(
        entity_df=entities.to_pandas(), features=["corridor_durations:duration_k"]
    )
    assert history.to_df().sort_values("event_timestamp")["duration_k"].isna().tolist() == [
        True,  # it was not fitted then
        False,
    ]

    assert fit_segments_flow(end=END) == written
    (again,) = home.batch_table("corridor_durations").rglob("*.parquet")
    assert pl.read_parquet(again).equals(rows)

    with get_client(sync_client=True) as server:
        kinds = {
            item.key: item.type
            for item in server.read_artifacts()
            if item.key and ("segments-" in item.key or item.key.startswith("survival"))
        }
    assert kinds == {
        "segments-duration-s": "table",
        "segments-total-to-pay-ref-minor": "table",
        "segments-pay-rate": "table",
        "segments-customers": "table",
        "survival-duration-s": "image",
    }


@pytest.mark.usefixtures("prefect_server")
def test_a_window_without_sessions_writes_nothing(home: Settings) -> None:
    with pytest.raises(DatasetError, match="at least one event"):
        fit_segments_flow(end=datetime(2001, 1, 1, tzinfo=UTC))
    assert not home.batch_table("customer_segment").exists()
