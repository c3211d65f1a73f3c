"""`daima embed-stream` on a live log: vectors within seconds of a session's end, by the clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import redis

from feature_repo.contracts.events import EVENT_SCHEMA, OUTSIDE_SESSION
from feature_repo.contracts.feature_set import load_feature_set
from feature_repo.contracts.settings import Settings
from feature_repo.stores.embedding_rows import latest_embeddings
from infra import embed_stream
from streaming.embedding_stream import Serving, UpdateReport
from streaming.log.valkey_streams import ValkeyLog
from tests.applied import apply_definitions
from tests.training.embedding.made import untrained_encoder
from tests.training.sessions import settings_at
from tests.training.simulated import events_of, simulated_world

SECONDS = timedelta(seconds=1)


@pytest.fixture
def settings(tmp_path: Path, valkey: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    found = replace(settings_at(tmp_path), redis=valkey)
    apply_definitions(found)
    monkeypatch.setattr(embed_stream, "_serving", lambda _: Serving(1, untrained_encoder()))
    return found


def running(settings: Settings, until: Callable[[], bool], **how: bool) -> UpdateReport:
    """Run it until something holds, a minute at most."""
    stop = threading.Event()
    reports: list[UpdateReport] = []
    work = threading.Thread(
        target=lambda: reports.append(embed_stream.embed(settings, "valkey", stop.is_set, **how))
    )
    work.start()
    limit = time.monotonic() + 60
    while not until() and time.monotonic() < limit and work.is_alive():
        time.sleep(0.05)
    stop.set()
    work.join(60)
    assert not work.is_alive()
    (report,) = reports
    return report


def test_a_session_that_has_just_ended_is_in_its_customers_vector(
    settings: Settings, client: redis.Redis[bytes]
) -> None:
    events = events_of(simulated_world(12, 3, seed=5))
    day = events.filter(~pl.col("event_type").is_in(sorted(OUTSIDE_SESSION)))
    # The last event happened 29 minutes and 58 seconds ago: over in two seconds, by the clock.
    last = day["event_time"].max()
    assert isinstance(last, datetime)
    shift = datetime.now(UTC) - timedelta(minutes=30) + 2 * SECONDS - last
    live = day.with_columns(pl.col("event_time") + shift)
    last_us = live["event_time"].dt.epoch("us").max()
    log = ValkeyLog(client, load_feature_set(None))
    whole = live.select(EVENT_SCHEMA.names).to_arrow().cast(EVENT_SCHEMA)
    log.append(whole.combine_chunks().to_batches()[0])

    def there() -> bool:
        return last_us in latest_embeddings(settings, 1)["embedding_updated_at"]

    report = running(settings, there)
    assert there(), "within a minute of its end"
    customers = latest_embeddings(settings, 1)["customer_id"].to_list()
    assert sorted(customers) == sorted(live["customer_id"].unique())
    assert report.updated >= len(customers)
    assert (report.repeated, report.stale) == (0, 0)

    # Another run has nothing left to do, whether it goes on or begins at the end.
    for from_now in (False, True):
        begun = time.monotonic()
        more = running(settings, lambda: time.monotonic() - begun > 1.5, from_now=from_now)  # noqa: B023
        assert more.updated == 0
