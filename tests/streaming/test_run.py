"""From an event file, and from the live log, into both stores; restarts in between."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis

from feature_repo.contracts.errors import DaimaError, InputError, StoreUnavailableError
from feature_repo.contracts.events import Event, to_epoch_us
from feature_repo.contracts.features import CORRIDOR, COUNTERPARTY, CUSTOMER, FEATURE_SET
from feature_repo.contracts.settings import ROOT, Settings
from streaming.checkpoints import CheckpointError
from streaming.log.errors import LogGapError
from streaming.log.valkey_layout import stream_name
from streaming.log.valkey_streams import ValkeyLog
from streaming.run import Share, restart, run_file, run_live
from tests.feature_repo.engine.oracle import features_at, features_of_event
from tests.streaming.made_events import START, batch_of, page_view, payment, write_events
from tests.streaming.store_reading import (
    archived_ids,
    fence_of,
    offline_rows,
    online_features,
    state_of,
)

EPOCH = timedelta(seconds=0.2)
LATER_US = to_epoch_us(START + timedelta(hours=3))


@pytest.fixture
def settings(tmp_path: Path, valkey: str) -> Settings:
    return Settings.from_env({"DAIMA_HOME": str(tmp_path / "home"), "DAIMA_REDIS": valkey})


def mixed(first: int, count: int, start: datetime | None = None) -> list[Event]:
    """Page views and payments of seven customers, some payments to a counterparty."""
    events = [
        (payment if number % 5 == 4 else page_view)(number, f"c{number % 7}")
        for number in range(first, first + count)
    ]
    shift = (start or START) - START
    return [
        Event(
            **{
                **{name: getattr(event, name) for name in event.__struct_fields__},
                "event_time": event.event_time + shift,
                "counterparty_id": f"p{number % 3}" if number % 5 == 4 else None,
            }
        )
        for number, event in enumerate(events, first)
    ]


def append(client: redis.Redis[bytes], events: list[Event]) -> None:
    ValkeyLog(client, FEATURE_SET).append(batch_of(events))


def live(settings: Settings, until: Callable[[], bool], **options: object) -> int:
    """Run the live stream in this process until something holds; the events let in."""
    deadline_s = time.monotonic() + 60
    report = run_live(
        settings,
        lambda: until() or time.monotonic() > deadline_s,
        epoch=EPOCH,
        **options,  # type: ignore[arg-type]
    )
    assert time.monotonic() < deadline_s, "the live stream did not get there"
    return report.events


def until_events(count: int) -> tuple[Callable[[], bool], Callable[[int], None]]:
    """(has seen so many events, progress to count them)."""
    seen = [0]

    def progress(events: int) -> None:
        seen[0] += events

    return (lambda: seen[0] >= count), progress


def stream(settings: Settings, count: int, **options: object) -> int:
    until, progress = until_events(count)
    return live(settings, until, progress=progress, **options)


def test_both_stores_hold_what_the_oracle_says(
    tmp_path: Path, settings: Settings, client: redis.Redis[bytes]
) -> None:
    events = mixed(0, 140)
    seen: list[int] = []
    file = write_events(events, tmp_path / "in" / "made.parquet")
    report = run_file(file, settings, progress=seen.append, frame_rows=16)
    assert report.events == sum(seen) == 140
    assert (report.dead_letters, report.set_aside, report.duplicates) == (0, 0, 0)
    assert report.rows_online >= 7
    records = batch_of(events).to_pylist()
    for entity, keys in ((CUSTOMER, "c0 c6"), (COUNTERPARTY, "p0 p2"), (CORRIDOR, "GB-NG")):
        views = FEATURE_SET.views_of(entity)
        for key in keys.split():
            found = online_features(client, FEATURE_SET, entity, key, LATER_US)
            if entity.hop is None:
                expected = features_at(views, records, key, LATER_US)
                assert found == pytest.approx(expected)
            assert any(found.values())
    rows = {row["event_id"]: row for row in offline_rows(settings, CUSTOMER).to_dicts()}
    assert len(rows) == 140
    views = FEATURE_SET.views_of(CUSTOMER)
    for place in range(0, 140, 9):
        row = rows[f"e{place}"]
        expected = features_of_event(views, records, place)
        assert {name: row[name] for name in expected} == pytest.approx(expected)
    assert len(offline_rows(settings, COUNTERPARTY)) == 28
    assert archived_ids(settings) == sorted(event.event_id for event in events)


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
    with pytest.raises(StoreUnavailableError, match="make up"):
        run_live(settings, lambda: True)
    assert not settings.home.exists()


def test_a_file_run_again_changes_nothing(
    tmp_path: Path, settings: Settings, client: redis.Redis[bytes]
) -> None:
    file = write_events(mixed(0, 60), tmp_path / "e.parquet")
    run_file(file, settings, frame_rows=20)
    before = state_of(client, CUSTOMER, "c1"), fence_of(client, CUSTOMER, "c1")
    again = run_file(file, settings, frame_rows=7)
    assert (again.rows_online, again.events) == (0, 60)
    assert (state_of(client, CUSTOMER, "c1"), fence_of(client, CUSTOMER, "c1")) == before
    assert len(archived_ids(settings)) == 60


def test_the_live_stream_goes_on_from_a_file_and_from_itself(
    tmp_path: Path, settings: Settings, client: redis.Redis[bytes]
) -> None:
    """File, live, live again, the file again: the states are those of all events in a row."""
    events = mixed(0, 120)
    file = write_events(events[:60], tmp_path / "e.parquet")
    run_file(file, settings)
    append(client, events[60:90])
    assert stream(settings, 30) == 30
    append(client, events[90:])
    assert stream(settings, 30) == 30
    state = state_of(client, CUSTOMER, "c1")
    run_file(file, settings)
    assert state_of(client, CUSTOMER, "c1") == state
    assert live(settings, _after(20)) == 0
    records = batch_of(events).to_pylist()
    for entity, key in ((CUSTOMER, "c1"), (COUNTERPARTY, "p1")):
        expected = features_at(FEATURE_SET.views_of(entity), records, key, LATER_US)
        found = online_features(client, FEATURE_SET, entity, key, LATER_US)
        assert found == pytest.approx(expected)
    assert archived_ids(settings) == sorted(event.event_id for event in events)


def test_a_file_takes_the_partitions_of_the_log_that_is_there(
    tmp_path: Path, settings: Settings, client: redis.Redis[bytes]
) -> None:
    events = mixed(0, 90)
    log = ValkeyLog(client, FEATURE_SET, shards=2)
    log.append(batch_of(events[60:80]))
    run_file(write_events(events[:60], tmp_path / "e.parquet"), settings)
    folders = settings.checkpoints(FEATURE_SET.name).glob("customer-*")
    assert sorted(folder.name for folder in folders) == ["customer-00", "customer-01"]
    log.append(batch_of(events[80:]))
    assert stream(settings, 30) == 30
    expected = features_at(
        FEATURE_SET.views_of(CUSTOMER), batch_of(events).to_pylist(), "c1", LATER_US
    )
    assert online_features(client, FEATURE_SET, CUSTOMER, "c1", LATER_US) == pytest.approx(expected)


def _after(polls: int) -> Callable[[], bool]:
    """Stops at a later poll: it is asked before each, and one reads all of a short log."""
    asked = itertools.count()
    return lambda: next(asked) >= polls


def test_two_processes_share_a_log(settings: Settings, client: redis.Redis[bytes]) -> None:
    append(client, mixed(0, 70))
    seen = sum(live(settings, _after(20), share=Share(worker, 2)) for worker in range(2))
    assert seen == 70
    assert all(state_of(client, CUSTOMER, f"c{n}") for n in range(7))
    fences = {fence_of(client, CUSTOMER, f"c{n}") for n in range(7)}
    assert {fence.generation for fence in fences if fence} == {1}


def test_a_restart_replays_the_log_under_a_new_generation(
    settings: Settings, client: redis.Redis[bytes]
) -> None:
    append(client, mixed(0, 40))
    stream(settings, 40)
    before = state_of(client, CUSTOMER, "c1")
    other = replace(FEATURE_SET, lateness=timedelta(hours=2))
    with pytest.raises(CheckpointError, match="daima stream --restart"):
        run_live(settings, lambda: True, feature_set=other)
    restart(settings, other)
    assert stream(settings, 40, feature_set=other) == 40
    fence = fence_of(client, CUSTOMER, "c1")
    assert fence is not None
    assert fence.generation == 2
    assert state_of(client, CUSTOMER, "c1") != before


def test_a_store_that_lost_its_values_is_not_taken_for_a_full_one(
    settings: Settings, client: redis.Redis[bytes]
) -> None:
    append(client, mixed(0, 10))
    stream(settings, 10)
    client.flushall()
    with pytest.raises(CheckpointError, match="daima rebuild"):
        run_live(settings, lambda: True)


def test_entries_that_are_gone_from_the_log_stop_the_stream(
    settings: Settings, client: redis.Redis[bytes]
) -> None:
    append(client, mixed(0, 40))
    stream(settings, 40)
    append(client, mixed(40, 40))
    append(client, mixed(80, 40))
    for shard in range(8):
        client.xtrim(stream_name("customer", shard), maxlen=1, approximate=False)
    with pytest.raises(LogGapError, match="gone"):
        live(settings, lambda: False)


def test_what_two_checkpoints_have_is_trimmed_after_the_retention(
    settings: Settings, client: redis.Redis[bytes]
) -> None:
    for first in range(0, 40, 10):
        append(client, mixed(first, 10))
    stream(replace(settings, log_retention=timedelta(0)), 40)
    assert all(client.xlen(stream_name("customer", shard)) <= 1 for shard in range(8))
    append(client, mixed(40, 10))
    assert stream(settings, 10) == 10


def test_a_generation_that_has_ended_stops_the_stream(
    settings: Settings, client: redis.Redis[bytes]
) -> None:
    append(client, mixed(0, 10))

    def newer() -> bool:
        if state_of(client, CUSTOMER, "c1") is not None:
            client.hincrby("daima:generation", "number", 1)
        return False

    with pytest.raises(DaimaError, match="goes on in the new one"):
        live(settings, newer)


def test_a_mended_replay_leaves_no_rows_of_the_one_before(
    tmp_path: Path, settings: Settings
) -> None:
    path = tmp_path / "log" / "made.parquet"
    for shift in (timedelta(days=9), timedelta(0)):
        events = [page_view(n, "c1", START + shift + timedelta(minutes=n)) for n in range(90)]
        run_file(write_events(events, path), settings)
    other = tmp_path / "other" / "made.parquet"
    run_file(write_events([page_view(500, "c2")], other), settings)
    stored = offline_rows(settings, CUSTOMER)
    assert stored.height == 91
    assert stored.filter(stored["event_timestamp"] >= START + timedelta(days=1)).is_empty()


def test_duplicates_are_counted(tmp_path: Path, settings: Settings) -> None:
    events = [page_view(n % 4) for n in range(6)]
    report = run_file(write_events(events, tmp_path / "twice.parquet"), settings)
    assert (report.events, report.duplicates) == (6, 2)


def run_live_process(settings: Settings, until: Callable[[], bool], stop: int) -> tuple[int, str]:
    """`python -m streaming` until something holds, then a signal: exit code and output."""
    with subprocess.Popen(
        [sys.executable, "-m", "streaming", "--epoch-s", "0.2"],
        env={"PATH": "", **settings.environment()},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while not until():
                assert time.monotonic() < deadline, "the live process did nothing"
                assert process.poll() is None, "the live process ended"
                time.sleep(0.05)
            process.send_signal(stop)
            output, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    return process.returncode, output


def test_the_live_process_survives_bad_entries_and_a_kill_and_drains_on_sigterm(
    settings: Settings, client: redis.Redis[bytes]
) -> None:
    now = datetime.now(UTC)
    events = [page_view(n, f"c{n % 5}", now - timedelta(seconds=60 - n)) for n in range(60)]
    client.xadd(stream_name("customer", 0), {b"arrow": b"garbage"})
    append(client, events[:40])

    def all_online() -> bool:
        return all(state_of(client, CUSTOMER, f"c{n}") for n in range(5))

    def letters() -> str:
        return "".join(path.read_text() for path in settings.dead_letters.glob("live-*"))

    code, _ = run_live_process(settings, lambda: all_online() and bool(letters()), signal.SIGKILL)
    assert code == -signal.SIGKILL
    append(client, events[40:])
    before = state_of(client, CUSTOMER, "c1")
    code, output = run_live_process(
        settings, lambda: state_of(client, CUSTOMER, "c1") != before, signal.SIGTERM
    )
    assert code == 0
    assert "dead letters" in output
    assert archived_ids(settings) == sorted(event.event_id for event in events)
    assert "garbage" in letters()
