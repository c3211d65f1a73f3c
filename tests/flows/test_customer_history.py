"""Customers' 90 days, written to both stores by a flow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.settings import Settings
from feature_repo.stores.feast_store import open_store
from flows.customer_history import customer_history
from tests.applied import apply_definitions
from tests.training.sessions import as_events, settings_at, write_archive

pytestmark = [
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning"),
    pytest.mark.xdist_group("prefect"),
]
# Values too old are not given online: yesterday's events, and this morning's.
NOW = datetime.now(UTC)
MIDNIGHT = NOW.replace(hour=0, minute=0, second=0, microsecond=0)


@pytest.fixture
def home(tmp_path: Path, valkey: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    settings = settings_at(tmp_path, redis=valkey)
    events = [
        ("1", MIDNIGHT - timedelta(hours=30), "payment_confirmed", 5_000),
        ("2", MIDNIGHT - timedelta(hours=5), "support_contact", None),
        ("3", MIDNIGHT + timedelta(seconds=1), "payment_confirmed", 7_000),
    ]
    frame = pl.DataFrame(
        events, ["event_id", "event_time", "event_type", "amount_ref_minor"], orient="row"
    )
    write_archive(settings, as_events(frame.with_columns(customer_id=pl.lit("history-1"))))
    apply_definitions(settings)
    for name, value in settings.environment().items():
        if name != "PREFECT_API_URL":
            monkeypatch.setenv(name, value)
    return settings


@pytest.mark.usefixtures("prefect_server")
def test_what_was_known_at_midnight_is_online(home: Settings) -> None:
    assert customer_history(NOW) == 1
    names = ["sent_90d_ref_minor", "contacts_90d", "history_days"]
    found = (
        open_store(home)
        .get_online_features(
            features=[f"customer_history:{name}" for name in names],
            entity_rows=[{"customer_id": "history-1"}],
        )
        .to_dict()
    )
    assert [found[name] for name in names] == [[5_000], [1], [2]]
    (file,) = home.batch_table("customer_history").rglob("*.parquet")
    rows = pl.read_parquet(file)
    assert rows["event_timestamp"].to_list() == [MIDNIGHT]
    assert customer_history(NOW) == 1
    assert pl.read_parquet(file).equals(rows)


@pytest.mark.usefixtures("prefect_server")
def test_before_anybody_was_seen_nothing_is_written(home: Settings) -> None:
    with pytest.raises(DatasetError, match="at least one before"):
        customer_history(MIDNIGHT - timedelta(days=9))
    assert not home.batch_table("customer_history").exists()
