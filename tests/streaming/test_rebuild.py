"""The online store lost, and refilled: every state as an undisturbed stream has it, bit for bit."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.contracts.errors import InputError
from feature_repo.contracts.events import Event, EventType
from feature_repo.contracts.feature_set import FeatureSet
from feature_repo.contracts.features import FEATURE_SET
from feature_repo.contracts.settings import PROJECT, Settings
from feature_repo.stores.generations import generation_key
from streaming.checkpoints import CheckpointError
from streaming.lineage import Lineage
from streaming.log.valkey_layout import RECORD
from streaming.log.valkey_streams import ValkeyLog
from streaming.owned import OwnedPartitions
from streaming.rebuild import archive_of, rebuild
from streaming.run import run_live
from streaming.setup import Setup
from tests.streaming.made_events import batch_of

EPOCH = timedelta(milliseconds=100)
BEGIN = datetime(2025, 6, 1, 22, tzinfo=UTC)  # the live log takes no event from the future


def made(numbers: range) -> list[Event]:
    """Events of 12 customers; every third a payment, some out of order, some labelled."""
    events = []
    for number in numbers:
        at = BEGIN + timedelta(minutes=number) - timedelta(minutes=7 if number % 11 == 0 else 0)
        customer = f"c{number % 12}"
        if number % 3 == 0:
            events.append(
                Event(
                    event_id=f"e{number}",
                    event_time=at,
                    customer_id=customer,
                    event_type=EventType.PAYMENT_SUBMITTED,
                    send_country="GB",
                    receive_country=("NG", "KE", "IN")[number % 7 % 3],
                    counterparty_id=f"r{number % 5}",
                    amount_minor=100 * number,
                    fee_minor=299,
                    currency="GBP",
                )
            )
        else:
            events.append(
                Event(
                    event_id=f"e{number}",
                    event_time=at,
                    customer_id=customer,
                    event_type=EventType.PAGE_VIEW,
                    page=f"page {number % 4}",
                    channel="app",
                )
            )
    return events


@pytest.fixture
def settings(tmp_path: Path, valkey: str) -> Settings:
    return Settings.from_env({"DAIMA_HOME": str(tmp_path / "home"), "DAIMA_REDIS": valkey})


def append(client: Any, numbers: range) -> None:
    log = ValkeyLog(client, FEATURE_SET, shards=2)
    for start in range(numbers.start, numbers.stop, 20):
        log.append(batch_of(made(range(start, min(start + 20, numbers.stop)))))


def stream(settings: Settings, events: int, feature_set: FeatureSet | None = None) -> None:
    """Run the stream until it has let in so many events."""
    seen: list[int] = []
    report = run_live(
        settings,
        lambda: sum(seen) >= events,
        feature_set=feature_set,
        epoch=EPOCH,
        progress=seen.append,
    )
    assert report.events == events


def states(client: Any) -> dict[bytes, dict[bytes, bytes]]:
    """All of the online store but fences and generation."""
    hidden = {RECORD.encode(), generation_key(PROJECT).encode()}
    return {
        key: {
            field: value
            for field, value in client.hgetall(key).items()
            if not field.startswith(b"_fence:")
        }
        for key in client.keys()  # noqa: SIM118 - not a dict
        if key not in hidden and not key.startswith(f"{RECORD}:".encode())
    }


def forget_values(client: Any) -> None:
    """Lose everything but the event log."""
    for key in [*states(client), generation_key(PROJECT)]:
        client.delete(key)


def archived_ids(settings: Settings) -> list[str]:
    files = settings.events_table.rglob("*.parquet")
    return sorted(
        name
        for file in files
        for name in pq.ParquetFile(file).read(["event_id"]).column(0).to_pylist()
    )


@pytest.fixture
def undisturbed(client: Any, settings: Settings, tmp_path: Path) -> dict[int, Any]:
    """States after 200 and after 300 events of a run that nothing happened to."""
    found = {}
    for events in (200, 300):
        other = replace(settings, home=tmp_path / f"undisturbed-{events}")
        append(client, range(events))
        stream(other, events)
        found[events] = states(client)
        client.flushall()
    return found


def test_everything_lost_comes_back_from_the_archive(
    client: Any, settings: Settings, undisturbed: dict[int, Any]
) -> None:
    append(client, range(200))
    stream(settings, 200)
    client.flushall()  # the log too: it was in the same server
    seen: list[int] = []
    report = rebuild(settings, archive_of(settings), progress=seen.append)
    assert states(client) == undisturbed[200]
    assert (report.archived, report.repeated, report.of_log) == (200, 0, 0)
    assert report.keys == {"customer": 12, "corridor": 3, "counterparty": 5}
    assert sum(seen) == 200
    # And the stream goes on from there, with a log that begins anew.
    append(client, range(200, 300))
    stream(settings, 100)
    assert states(client) == undisturbed[300]


def test_what_only_the_log_has_is_folded_and_archived(
    client: Any, settings: Settings, undisturbed: dict[int, Any]
) -> None:
    append(client, range(150))
    stream(settings, 150)
    append(client, range(150, 200))
    forget_values(client)
    report = rebuild(settings, archive_of(settings))
    assert states(client) == undisturbed[200]
    assert (report.archived, report.of_log, report.dead_letters) == (150, 50, 0)
    append(client, range(200, 300))
    stream(settings, 100)
    assert states(client) == undisturbed[300]
    assert archived_ids(settings) == sorted(event.event_id for event in made(range(300)))


def test_the_log_alone_is_enough_while_it_keeps_everything(
    client: Any, settings: Settings, undisturbed: dict[int, Any]
) -> None:
    append(client, range(200))
    report = rebuild(settings, None)
    assert states(client) == undisturbed[200]
    assert (report.archived, report.of_log) == (0, 200)
    assert len(archived_ids(settings)) == 200


def test_event_files_can_stand_for_the_archive(
    client: Any, settings: Settings, undisturbed: dict[int, Any], tmp_path: Path
) -> None:
    file = tmp_path / "events.parquet"
    pq.write_table(_table(range(200)), file)
    append(client, range(190, 200))  # the log repeats the end of the file
    report = rebuild(settings, file)
    assert states(client) == undisturbed[200]
    assert (report.archived, report.of_log) == (200, 0)


def test_an_archive_written_twice_counts_once(
    client: Any, settings: Settings, undisturbed: dict[int, Any]
) -> None:
    append(client, range(200))
    stream(settings, 200)
    for file in list(settings.events_table.rglob("*.parquet")):
        generation, rest = file.name.split("-", 1)
        shutil.copy(file, file.with_name(f"{int(generation) + 7:010d}-{rest}"))
    client.flushall()
    report = rebuild(settings, archive_of(settings))
    assert states(client) == undisturbed[200]
    assert (report.archived, report.repeated) == (200, 200)


def test_values_that_are_there_are_replaced(
    client: Any, settings: Settings, undisturbed: dict[int, Any]
) -> None:
    append(client, range(200))
    stream(settings, 200)
    for key, fields in states(client).items():
        client.hset(key, mapping=dict.fromkeys(fields, b"damaged"))
    rebuild(settings, archive_of(settings))
    assert states(client) == undisturbed[200]


def test_other_definitions_take_the_place_of_the_ones_before(
    client: Any, settings: Settings
) -> None:
    append(client, range(200))
    stream(settings, 200)
    other = replace(FEATURE_SET, views=FEATURE_SET.views[1:])
    fresh = replace(settings, home=settings.home / "fresh")
    report = rebuild(settings, archive_of(settings), feature_set=other)
    rebuilt = states(client)
    assert report.keys["customer"] == 12
    append(client, range(200, 220))
    stream(settings, 20, other)
    client.flushall()
    append(client, range(200))
    stream(fresh, 200, other)
    assert states(client) == rebuilt


def test_a_rebuild_that_was_broken_off_is_not_continued_but_run_again(
    client: Any, settings: Settings, undisturbed: dict[int, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    append(client, range(200))
    stream(settings, 200)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Lineage, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            rebuild(settings, archive_of(settings))
    with pytest.raises(CheckpointError, match="did not finish"):
        stream(settings, 0)
    rebuild(settings, archive_of(settings))
    assert states(client) == undisturbed[200]


def test_no_rebuild_beside_a_stream(client: Any, settings: Settings) -> None:
    append(client, range(40))
    stream(settings, 40)
    setup = Setup(settings, None, 2)
    lineage = setup.lineage(client)
    owned = OwnedPartitions()
    owned.open(setup.folder, setup.programs, setup.partitions([1]), lineage.continue_live("valkey"))
    before = states(client), client.hgetall(generation_key(PROJECT))
    with pytest.raises(CheckpointError, match="end the other"):
        rebuild(settings, archive_of(settings))
    owned.close()
    assert before == (states(client), client.hgetall(generation_key(PROJECT)))


def test_nothing_to_rebuild_from_is_an_error(client: Any, settings: Settings) -> None:
    assert archive_of(settings) is None
    with pytest.raises(InputError, match="replay a file first"):
        rebuild(settings, None)


def _table(numbers: range) -> Any:
    batch = batch_of(made(numbers))
    return pa.Table.from_batches([batch]).sort_by("event_time")
