"""What is expected of an open session: the API, Feast online and Feast offline say the same."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
import redis
from litestar.testing import TestClient
from mlflow import MlflowClient

from feature_repo.contracts.events import Event, EventType, to_epoch_us
from feature_repo.contracts.settings import Settings
from feature_repo.engine.outlook import expected_remaining
from feature_repo.stores.feast_store import open_store
from feature_repo.stores.view_rows import write_view_rows
from serving.app import create_app
from serving.catalog import load_catalog
from serving.settings import ServingSettings
from tests.applied import apply_definitions
from tests.online_states import store_states
from tests.training.sessions import as_events, settings_at, write_archive

REFS = ["session_outlook:session_elapsed_s", "session_outlook:session_expected_remaining_s"]
K, SCALE_S = 0.7, 240.0
NOW = datetime.now(UTC).replace(microsecond=0)
pytestmark = pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")


def event(customer: str, ago: timedelta, number: int = 0) -> Event:
    return Event(
        event_id=f"{customer}-{ago.total_seconds()}-{number}",
        event_time=NOW - ago,
        customer_id=customer,
        event_type=EventType.PAGE_VIEW,
        send_country="GB",
        receive_country="NG" if customer != "elsewhere" else "IN",
    )


EVENTS = [
    event("open", timedelta(minutes=5)),
    event("open", timedelta(minutes=1)),
    event("gone", timedelta(hours=3)),
    event("elsewhere", timedelta(minutes=2)),
]
DURATIONS = pl.DataFrame(
    {
        "corridor": ["GB-NG"],
        "duration_sessions": [900],
        "duration_k": [K],
        "duration_scale_s": [SCALE_S],
        **{
            name: [1.0]
            for name in (
                "duration_k_low", "duration_k_high", "duration_scale_low_s",
                "duration_scale_high_s", "duration_own_share", "total_to_pay_k",
                "total_to_pay_scale_ref_minor", "pay_rate_k", "pay_rate_scale",
            )
        },
    }
)  # fmt: skip
EXPECTED = float(expected_remaining(*(pl.Series([x]).to_numpy() for x in (300.0, K, SCALE_S)))[0])


@pytest.fixture
def home(tmp_path: Path, valkey: str) -> Settings:
    """The events and the distributions in both stores."""
    settings = settings_at(tmp_path, redis=valkey)
    apply_definitions(settings)
    host, port = valkey.split(":")
    with redis.Redis(host=host, port=int(port)) as client:
        store_states(client, EVENTS)
    frame = pl.DataFrame([{name: getattr(e, name) for name in e.__struct_fields__} for e in EVENTS])
    columns = ["event_id", "event_time", "customer_id", "send_country", "receive_country"]
    kinds = frame.select(*columns, event_type=pl.lit("page_view"))
    write_archive(settings, as_events(kinds).sort("event_time"))
    write_view_rows(settings, "corridor_durations", DURATIONS, NOW - timedelta(days=1))
    return settings


def test_feast_online_and_offline_agree(home: Settings) -> None:
    store = open_store(home)
    names = ["open", "gone", "elsewhere", "nobody"]
    corridors = ["GB-NG", "GB-NG", "GB-IN", "GB-NG"]
    rows = [
        {"customer_id": name, "corridor": corridor, "as_of_us": to_epoch_us(NOW)}
        for name, corridor in zip(names, corridors, strict=True)
    ]
    online = store.get_online_features(REFS, rows).to_dict()
    assert online["session_elapsed_s"] == [300.0, None, 120.0, None]
    assert online["session_expected_remaining_s"] == [pytest.approx(EXPECTED), None, None, None]
    entities = pd.DataFrame(rows).assign(event_timestamp=pd.Timestamp(NOW))
    offline = store.get_historical_features(entities, [*REFS, "corridor_durations:duration_k"])
    frame = offline.to_df()
    assert frame["session_elapsed_s"].fillna(-1).tolist() == [300.0, -1, 120.0, -1]
    assert frame["session_expected_remaining_s"].fillna(-1).tolist() == [
        pytest.approx(EXPECTED), -1, -1, -1,
    ]  # fmt: skip
    full = store.get_historical_features(entities, REFS, full_feature_names=True).to_df()
    assert "session_outlook__session_expected_remaining_s" in full.columns


def test_the_api_says_the_same(home: Settings) -> None:
    registry = MlflowClient(home.mlflow_url, home.mlflow_url)
    app = create_app(ServingSettings(home), load_catalog(home), registry)
    body: dict[str, Any] = {
        "features": REFS,
        "customers": ["open", "gone", "elsewhere", "nobody"],
        "as_of": NOW.isoformat(),
    }
    with TestClient(app) as client:
        rows = client.post("/v1/features", content=json.dumps(body)).json()["rows"]
        profile = client.get("/v1/profile/open").json()
    values = [[row["values"][ref] for ref in REFS] for row in rows]
    assert values == [[300.0, pytest.approx(EXPECTED)], [None, None], [120.0, None], [None, None]]
    statuses = [[row["statuses"][ref] for ref in REFS] for row in rows]
    assert statuses == [
        ["PRESENT", "PRESENT"],
        ["NULL_VALUE", "NULL_VALUE"],
        ["PRESENT", "NULL_VALUE"],
        ["NOT_FOUND", "NOT_FOUND"],
    ]
    # The sources are read along and not shown.
    assert set(rows[0]["values"]) == set(REFS)
    assert rows[0]["ages_s"]["session_outlook"] == pytest.approx(86_400.0)
    assert profile["features"][REFS[1]] > 0
