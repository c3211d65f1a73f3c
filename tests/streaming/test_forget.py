"""A customer forgotten: nothing is left, nothing brings them back, and what comes after counts."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from feature_repo.contracts.features import FEATURE_SET
from feature_repo.contracts.settings import Settings
from feature_repo.stores.event_history import read_in_log_order
from feature_repo.stores.forgotten import ForgottenFile, key_of
from feature_repo.stores.redis_layout import entity_key_encoder
from streaming.backfill import backfill, event_source
from streaming.compaction import compact_tables
from streaming.forget import ForgetError, forget
from streaming.log.valkey_streams import ValkeyLog
from streaming.purge import PurgeReport
from streaming.rebuild import archive_of, rebuild
from streaming.run import run_file, run_live
from tests.streaming.made_events import batch_of
from tests.streaming.test_rebuild import (
    EPOCH,
    append,
    archived_ids,
    made,
    states,
    stream,
)

WHO = "c3"


@pytest.fixture
def settings(tmp_path: Path, valkey: str) -> Settings:
    return Settings.from_env({"DAIMA_HOME": str(tmp_path / "home"), "DAIMA_REDIS": valkey})


@pytest.fixture
def online(client: Any) -> Any:
    """A function: what stands online of a customer."""
    key = entity_key_encoder("customer_id", "daima")
    return lambda name=WHO: client.hgetall(key(name))


def append_others(client: Any, numbers: range) -> None:
    log = ValkeyLog(client, FEATURE_SET, shards=2)
    log.append(batch_of([event for event in made(numbers) if event.customer_id != WHO]))


def of_customers(found: dict[bytes, Any]) -> dict[bytes, Any]:
    """States of customers: those of corridors and payees keep what many have done."""
    return {key: value for key, value in found.items() if b"customer_id" in key}


def names_in(folder: Path, name: str = WHO) -> list[str]:
    """Files under a folder in which a customer's id stands as a text of its own."""
    found = []
    for path in folder.rglob("*"):
        if path.suffix == ".parquet":
            table = pq.ParquetFile(path).read()
            texts = [
                column.cast(pa.string())
                for column in table.columns
                if pa.types.is_string(column.type)
                or pa.types.is_large_string(column.type)
                or pa.types.is_dictionary(column.type)
            ]
            if any(pc.any(pc.equal(column, name)).as_py() for column in texts):
                found.append(path.name)
        elif path.suffix == ".arrow":
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            if "customer_id" in table.column_names and name in table["customer_id"].to_pylist():
                found.append(path.name)
        elif (
            path.is_file() and path.suffix != ".lock" and f'"{name}"'.encode() in path.read_bytes()
        ):
            found.append(path.name)
    return found


@contextmanager
def running(settings: Settings) -> Iterator[Any]:
    """A live stream in a thread; yields a function that waits for so many events."""
    stop, seen, failed = threading.Event(), [], []
    came = threading.Condition()

    def progress(events: int) -> None:
        with came:
            seen.append(events)
            came.notify_all()

    def run() -> None:
        try:
            run_live(settings, stop.is_set, epoch=EPOCH, progress=progress)
        except Exception as error:  # shown below: this thread has no caller
            failed.append(error)

    def wait_for(events: int) -> None:
        with came:
            assert came.wait_for(lambda: sum(seen) >= events or failed, 30)
        assert not failed, failed

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield wait_for
    finally:
        stop.set()
        thread.join()
    assert not failed, failed


def test_without_a_stream_nothing_is_left_and_the_next_events_start_anew(
    client: Any,
    settings: Settings,
    online: Any,
    tmp_path: Path,
) -> None:
    other = replace(settings, home=tmp_path / "other")
    append_others(client, range(200))
    append(client, range(200, 300))
    stream(other, 283)
    expected = of_customers(states(client))
    client.flushall()

    append(client, range(200))
    stream(settings, 200)
    assert online()
    report = forget(settings, WHO)
    assert (report.known, report.online, report.by_stream) == (True, 1, [])
    assert not online()
    assert names_in(settings.home) == []
    assert report.rows > 17  # of events, and of features
    append(client, range(200, 300))
    stream(settings, 100)
    assert of_customers(states(client)) == expected
    kept = {event.event_id for event in made(range(300)) if event.customer_id != WHO}
    new = {event.event_id for event in made(range(200, 300))}
    assert archived_ids(settings) == sorted(kept | new)


def test_a_running_stream_forgets_in_its_flow(
    client: Any,
    settings: Settings,
    online: Any,
    tmp_path: Path,
) -> None:
    other = replace(settings, home=tmp_path / "other")
    append_others(client, range(200))
    append(client, range(200, 300))
    stream(other, 283)
    expected = of_customers(states(client))
    client.flushall()

    append(client, range(200))
    with running(settings) as wait_for:
        wait_for(200)
        report = forget(settings, WHO, wait=timedelta(seconds=30))
        assert len(report.by_stream) == 3  # its own partition, and two of payees
        assert not online()
        assert names_in(settings.home) == []
        append(client, range(200, 250))
        wait_for(250)
    stream(settings, 0)  # a restart takes up what is there
    append(client, range(250, 300))
    stream(settings, 50)
    assert of_customers(states(client)) == expected
    assert len(archived_ids(settings)) == 283


def test_what_the_log_still_has_is_not_let_in(
    client: Any,
    settings: Settings,
    online: Any,
) -> None:
    append(client, range(100))
    stream(settings, 100)
    append(client, range(100, 200))  # not read yet
    forget(settings, WHO)
    stream(settings, 92)
    assert not online()
    assert names_in(settings.home) == []


@pytest.mark.parametrize("history", ["archive", "log", "file"])
def test_a_rebuild_brings_nobody_back(
    client: Any,
    settings: Settings,
    online: Any,
    tmp_path: Path,
    history: str,
) -> None:
    append(client, range(200))
    stream(settings, 200)
    forget(settings, WHO)
    file = tmp_path / "events.parquet"
    table = pa.Table.from_batches([batch_of(made(range(200)))]).sort_by("event_time")
    pq.write_table(table, file)
    source = {"archive": archive_of(settings), "log": None, "file": file}[history]
    rebuild(settings, source)
    assert not online()
    assert online("c4")
    assert names_in(settings.home) == []
    append(client, range(200, 240))
    stream(settings, 40)
    assert online()


def test_neither_replay_nor_backfill_nor_compaction_does(
    client: Any,
    settings: Settings,
    online: Any,
    tmp_path: Path,
) -> None:
    file = tmp_path / "events.parquet"
    table = pa.Table.from_batches([batch_of(made(range(200)))]).sort_by("event_time")
    pq.write_table(table, file)
    run_file(file, settings)
    assert online()
    forget(settings, WHO)
    assert not online()
    run_file(file, settings)
    assert not online()
    for at, source in enumerate((file, settings.events_table)):
        out = settings.home / f"features-{at}"
        report = backfill(event_source(source, settings.offline), FEATURE_SET, out)
        assert report.rows == 183
    compact_tables(settings, FEATURE_SET, date(2030, 1, 1))
    assert names_in(settings.home) == []


def test_broken_off_the_archive_hides_the_customer_until_it_is_run_again(
    client: Any,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    append(client, range(100))
    stream(settings, 100)

    def killed(*_: object) -> PurgeReport:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("streaming.forget.purge", killed)
        with pytest.raises(KeyboardInterrupt):
            forget(settings, WHO)
    assert names_in(settings.events_table)
    columns = ["event_time", "event_type", "label_arrival_time", "customer_id"]
    left = pa.Table.from_batches(read_in_log_order(settings.events_table, columns))
    assert WHO not in left["customer_id"].cast(pa.string()).to_pylist()
    forget(settings, WHO)
    assert names_in(settings.home) == []
    (tombstone,) = ForgottenFile(settings.offline).read().tombstones.values()
    assert tombstone.customer is None


def test_a_stream_that_does_not_answer_is_an_error_and_the_next_start_forgets(
    client: Any,
    settings: Settings,
    online: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    append(client, range(100))
    stream(settings, 100)
    with monkeypatch.context() as patch:
        patch.setattr("streaming.forgetting.Forgetter.due", lambda self, offsets: [])
        with running(settings) as wait_for:
            append(client, range(100, 101))
            wait_for(1)  # so that the stream owns the partitions
            with pytest.raises(ForgetError, match="not done after"):
                forget(settings, WHO, wait=timedelta(seconds=0.5))
    assert online()
    with running(settings) as wait_for:
        wait_for(0)
        report = forget(settings, WHO, wait=timedelta(seconds=30))
    assert report.by_stream
    assert not online()
    assert names_in(settings.home) == []


def test_a_stream_that_dies_while_it_forgets_does_so_at_its_next_start(
    client: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = replace(settings, home=tmp_path / "other")
    append_others(client, range(200))
    append(client, range(200, 300))
    stream(other, 283)
    expected = of_customers(states(client))
    client.flushall()

    def dies(*_: object) -> None:
        raise OSError("no space left")

    append(client, range(200))
    with monkeypatch.context() as patch:
        patch.setattr("streaming.checkpoints.PartitionCheckpoint.begin_anew", dies)
        with pytest.raises(AssertionError, match="no space left"):
            _forget_beside(settings)
    append(client, range(200, 300))
    end_s = monotonic() + 20
    with running(settings):
        while of_customers(states(client)) != expected:
            assert monotonic() < end_s
            sleep(0.05)


def _forget_beside(settings: Settings) -> None:
    """Forget beside a stream; where that dies, the rest is done here or at its next start."""
    with running(settings) as wait_for:
        wait_for(200)
        with contextlib.suppress(ForgetError, OSError):
            forget(settings, WHO, wait=timedelta(seconds=1))


def test_a_customer_of_whom_nothing_is_known(client: Any, settings: Settings) -> None:
    report = forget(settings, "nobody")
    assert (report.known, report.rows) == (False, 0)
    assert list(ForgottenFile(settings.offline).read().tombstones) == [key_of("nobody")]
