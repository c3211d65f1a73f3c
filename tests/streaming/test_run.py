"""From an event file through the dataflow into both stores, read back through plain Feast."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import polars as pl
import pytest
from feast import FeatureStore

from feature_repo.contracts.errors import InputError, StoreUnavailableError
from feature_repo.contracts.features import STREAM_FEATURES, STREAM_VIEWS
from feature_repo.contracts.settings import PROJECT, REPO_PATH, Settings
from feature_repo.stores.feast_store import open_store
from feature_repo.stores.redis_connection import connect
from feature_repo.stores.redis_layout import entity_key_encoder
from streaming.log.valkey_streams import ValkeyLog, stream_name
from streaming.run import run_file
from tests.applied import apply_definitions
from tests.feature_repo.engine.oracle import features_at
from tests.streaming.made_events import START, batch_of, page_view, payment, write_events

REFS = [f"{view}:{f.name}" for view, features in STREAM_VIEWS.items() for f in features]
NAMES = [feature.name for feature in STREAM_FEATURES]


@pytest.fixture
def settings(tmp_path: Path, valkey: str) -> Settings:
    return Settings.from_env({"DAIMA_HOME": str(tmp_path / "home"), "DAIMA_REDIS": valkey})


@pytest.fixture
def store(settings: Settings) -> FeatureStore:
    """The feature store, with the definitions applied."""
    settings.home.mkdir(parents=True)
    apply_definitions(settings)
    return open_store(settings)


def test_both_stores_hold_what_the_oracle_says(
    tmp_path: Path, settings: Settings, store: FeatureStore
) -> None:
    events = [
        (payment if number % 5 == 4 else page_view)(number, f"c{number % 7}")
        for number in range(140)
    ]
    seen: list[int] = []
    report = run_file(
        write_events(events, tmp_path / "in" / "made.parquet"),
        settings,
        progress=seen.append,
        frame_rows=16,
    )
    assert report.events == sum(seen) == 140
    assert report.dead_letters == 0
    assert report.rows_online >= 7

    online = store.get_online_features(
        features=REFS, entity_rows=[{"customer_id": f"c{n}"} for n in range(7)]
    ).to_dict()
    for number in range(7):
        customer = f"c{number}"
        last = max(e.event_time for e in events if e.customer_id == customer)
        expected = in_dollars(features_at(events, customer, us(last)))
        assert {name: online[name][number] for name in NAMES} == pytest.approx(expected)

    asked = pd.DataFrame(
        {
            "customer_id": [event.customer_id for event in events],
            "event_timestamp": [event.event_time for event in events],
        }
    )
    history = pl.from_arrow(store.get_historical_features(asked, REFS).to_arrow())
    assert isinstance(history, pl.DataFrame)
    assert history.height == len(events)
    for event, row in zip(events, history.to_dicts(), strict=True):
        expected = in_dollars(features_at(events, event.customer_id, us(event.event_time)))
        assert {name: row[name] for name in NAMES} == pytest.approx(expected)


def us(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def in_dollars(row: dict[str, object]) -> dict[str, object]:
    """The oracle adds up pounds; every payment of these tests is 100.00 + 2.99 of them."""
    rate = 1.31
    for name, value in row.items():
        if "_amount_ref_minor_" in name and isinstance(value, int):
            row[name] = value // 10_000 * round(10_000 * rate)
        elif "_fee_ref_minor_" in name and isinstance(value, int):
            row[name] = value // 299 * round(299 * rate)
    total = row["session_total_to_pay_ref_minor"]
    if isinstance(total, int):
        row["session_total_to_pay_ref_minor"] = round(10_000 * rate) + round(299 * rate)
        if row["session_duration_s"]:
            seconds = row["session_duration_s"]
            assert isinstance(seconds, float)
            row["session_pay_rate"] = row["session_total_to_pay_ref_minor"] / seconds  # type: ignore[operator]
    return row


def test_a_file_that_is_no_event_file_is_refused_before_anything_is_written(
    settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="daima replay"):
        run_file(tmp_path / "absent.parquet", settings)
    assert not settings.home.exists()


def test_an_absent_store_is_named_before_anything_is_written(tmp_path: Path) -> None:
    settings = Settings.from_env({"DAIMA_HOME": str(tmp_path / "h"), "DAIMA_REDIS": "127.0.0.1:1"})
    events = write_events([page_view(0)], tmp_path / "e.parquet")
    with pytest.raises(StoreUnavailableError, match="make up"):
        run_file(events, settings)
    assert not settings.home.exists()


def run_live_process(settings: Settings, until: Callable[[], bool], stop: int) -> tuple[int, str]:
    """`python -m streaming` until something holds, then a signal: exit code and output."""
    with subprocess.Popen(
        [sys.executable, "-m", "streaming"],
        env={"PATH": "", **settings.environment()},
        cwd=REPO_PATH.parent,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while not until():
                assert time.monotonic() < deadline, "the live process did nothing"
                assert process.poll() is None, "the live process ended"
                time.sleep(0.1)
            process.send_signal(stop)
            output, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    return process.returncode, output


def test_the_live_process_survives_bad_entries_drains_on_sigterm_and_starts_anew(
    settings: Settings, valkey: str
) -> None:
    now = datetime.now(UTC)
    events = [page_view(n, f"c{n % 5}", now - timedelta(seconds=60 - n)) for n in range(60)]
    with connect(valkey) as client:
        client.xadd(stream_name(0), {b"arrow": b"garbage"})
        ValkeyLog(client).append(batch_of(events))
        key_of = entity_key_encoder("customer_id", PROJECT)

        def all_online() -> bool:
            return bool(client.exists(*(key_of(f"c{n}") for n in range(5))) == 5)

        for stop, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 0)):
            client.delete(*(key_of(f"c{n}") for n in range(5)))
            returned, output = run_live_process(settings, all_online, stop)
            assert returned == code
    assert "streamed 60 events, 1 dead letters" in output
    stored = pl.read_parquet(settings.stream_table, hive_partitioning=True)
    assert sorted(stored["event_id"].to_list()) == sorted(event.event_id for event in events)
    letters = [path.read_text() for path in settings.dead_letters.glob("live-*")]
    assert "garbage" in letters[-1]


def test_a_mended_replay_leaves_no_rows_of_the_one_before(
    tmp_path: Path, settings: Settings
) -> None:
    path = tmp_path / "log" / "made.parquet"
    for shift in (timedelta(days=9), timedelta(0)):
        events = [page_view(n, "c1", START + shift + timedelta(minutes=n)) for n in range(90)]
        run_file(write_events(events, path), settings)
    other = tmp_path / "other" / "made.parquet"
    run_file(write_events([page_view(500, "c2")], other), settings)
    stored = pl.read_parquet(settings.stream_table, hive_partitioning=True)
    assert stored.height == 91
    assert stored.filter(pl.col("event_timestamp") >= START + timedelta(days=1)).is_empty()


def test_duplicates_are_counted(tmp_path: Path, settings: Settings) -> None:
    events = [page_view(n % 4) for n in range(6)]
    report = run_file(write_events(events, tmp_path / "twice.parquet"), settings)
    assert (report.events, report.duplicates) == (6, 2)
