from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from feature_repo.contracts.errors import DatasetError, InputError
from feature_repo.contracts.events import EVENT_SCHEMA, to_epoch_us
from feature_repo.contracts.features import FEATURE_SET
from feature_repo.contracts.settings import Settings
from feature_repo.stores.forgotten import ForgottenFile, Tombstone, key_of
from streaming.log.frames import split_by_shard
from streaming.log.valkey_streams import ValkeyLog, ValkeyLogReader
from tests.training.sessions import START, session_events, settings_at, write_archive
from training.log_source import archive_log, file_log, live_batches
from training.session_starts import SessionStarts

MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="module")
def events() -> pl.DataFrame:
    return session_events(600, 60, days=3, seed=4)


def ids(batches: Iterable[tuple[int, pa.RecordBatch]]) -> list[str]:
    return [ident for _, batch in batches for ident in batch.column("event_id").to_pylist()]


def partitioned(settings: Settings, events: pl.DataFrame) -> None:
    """The archive of a stream of three partitions, in files of 70 minutes each."""
    table = events.to_arrow().cast(EVENT_SCHEMA).combine_chunks().to_batches()[0]
    keys = table.column("customer_id").cast(pa.string())
    for partition, rows in split_by_shard(table, keys, 3):
        part = pl.DataFrame(pl.from_arrow(rows))
        pieces = part.group_by_dynamic("event_time", every="70m").agg(pl.len())["len"]
        first = 0
        for count in pieces:
            piece = part.slice(first, count)
            day = piece["event_time"][0].date()
            folder = settings.events_table / f"event_date={day}"
            folder.mkdir(parents=True, exist_ok=True)
            piece.write_parquet(folder / f"0000000001-{partition:04d}-{first:020d}.parquet")
            first += count


def test_partitions_are_merged_by_when_their_events_were_known(
    events: pl.DataFrame, tmp_path: Path
) -> None:
    settings = settings_at(tmp_path)
    partitioned(settings, events)
    assert len(list(settings.events_table.rglob("*.parquet"))) > 60
    assert ids(archive_log(settings, FEATURE_SET)()) == events["event_id"].to_list()
    assert ids(archive_log(settings, FEATURE_SET, rows=7)()) == events["event_id"].to_list()


def test_a_partition_keeps_its_own_order(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    times = {"0000": [0, 40, 10, 50], "0001": [5, 20, 45]}
    folder = settings.events_table / "event_date=2025-03-03"
    folder.mkdir(parents=True)
    base = session_events(4, 4, days=1).head(1)
    for partition, minutes in times.items():
        rows = pl.concat(
            base.with_columns(
                event_time=pl.lit(START + MINUTE * at).dt.cast_time_unit("us"),
                event_id=pl.lit(f"{partition}-{at}"),
                customer_id=pl.lit(partition),
            )
            for at in minutes
        )
        rows.write_parquet(folder / f"0000000001-{partition}-{0:020d}.parquet")
    found = ids(archive_log(settings, FEATURE_SET)())
    # The one of minute 10 came late, once minute 40 was known: not before 20 of the other.
    assert found == ["0000-0", "0001-5", "0001-20", "0000-40", "0000-10", "0001-45", "0000-50"]


def test_events_after_the_end_and_of_the_forgotten_are_not_read(
    events: pl.DataFrame, tmp_path: Path
) -> None:
    settings = settings_at(tmp_path)
    write_archive(settings, events)
    end = START + timedelta(days=1)
    kept = events.filter(pl.col("event_time") <= end)
    assert 0 < kept.height < events.height
    assert ids(archive_log(settings, FEATURE_SET, end)()) == kept["event_id"].to_list()

    who = str(kept["customer_id"][0])
    tombstone = Tombstone(at_us=to_epoch_us(end + timedelta(days=9)), customer=who)
    ForgottenFile(settings.offline).change(lambda found: found.update({key_of(who): tombstone}))
    kept = kept.filter(pl.col("customer_id") != who)
    assert ids(archive_log(settings, FEATURE_SET, end)()) == kept["event_id"].to_list()


def test_labels_and_calls_are_not_read_since_no_feature_sees_them(
    events: pl.DataFrame, tmp_path: Path
) -> None:
    settings = settings_at(tmp_path)
    call = events.head(1).with_columns(
        event_id=pl.lit("call"), event_type=pl.lit("support_contact")
    )
    write_archive(settings, pl.concat([call, events]))
    assert ids(archive_log(settings, FEATURE_SET)()) == events["event_id"].to_list()


def test_an_event_file_is_one_log(events: pl.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    pq.write_table(events.to_arrow().cast(EVENT_SCHEMA), path)
    opened = file_log(path, FEATURE_SET, rows=100)
    for _ in range(2):
        assert ids(opened()) == events["event_id"].to_list()
    with pytest.raises(InputError, match="a Parquet file of events"):
        next(file_log(tmp_path / "nothing", FEATURE_SET)())


def test_a_live_log_brings_customers_events_alone(
    events: pl.DataFrame, client: redis.Redis[bytes]
) -> None:
    ahead = events.tail(1).with_columns(
        event_id=pl.lit("ahead"), event_time=pl.col("event_time") + timedelta(days=30)
    )
    table = pl.concat([events, ahead]).to_arrow().cast(EVENT_SCHEMA).combine_chunks()
    ValkeyLog(client, FEATURE_SET, shards=3).append(table.to_batches()[0])
    positions = {("customer", shard): None for shard in range(3)}
    reader = ValkeyLogReader(client, positions, stopped=lambda: False)
    newest = events["event_time"].max()
    assert isinstance(newest, datetime)
    found = list(live_batches(reader, quiet_s=0.2, now=lambda: newest))
    assert {partition for partition, _ in found} == {0, 1, 2}
    assert sorted(ids(found)) == sorted(events["event_id"])

    starts = {name: SessionStarts(FEATURE_SET, ["event_count_24h"]) for name in ("live", "file")}
    live = [starts["live"].fold(*each) for each in found]
    whole = [starts["file"].fold(0, table.to_batches()[0].slice(0, events.height))]
    begun = {
        name: {
            (customer, int(at), count)
            for each in side
            for customer, at, count in zip(
                each.customers, each.began_us, each.features["event_count_24h"], strict=True
            )
        }
        for name, side in (("live", live), ("file", whole))
    }
    assert begun["live"] == begun["file"]
    assert len(begun["live"]) > 400


def test_no_archive_or_another_file_in_it(events: pl.DataFrame, tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    with pytest.raises(DatasetError, match="stream events first"):
        archive_log(settings, FEATURE_SET)
    write_archive(settings, events)
    before = archive_log(settings, FEATURE_SET)
    (settings.events_table / "a-b-c.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(DatasetError, match="remove files that are not the dataflow's"):
        list(archive_log(settings, FEATURE_SET)())
    assert ids(before()) == events["event_id"].to_list(), "what came later is not read"
