"""A row an event: equal to the live rows, whatever interrupts it, in bounded memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from feature_repo.contracts.definition import Aggregate, Feature, Lifetime
from feature_repo.contracts.errors import InputError
from feature_repo.contracts.events import EVENT_SCHEMA
from feature_repo.contracts.feature_set import FeatureSet, View, load_feature_set
from feature_repo.contracts.features import CUSTOMER, CUSTOMER_SESSION
from feature_repo.engine.program import compile_program
from feature_repo.engine.projection import project
from feature_repo.engine.shard import Shard
from streaming.backfill import backfill, event_source
from streaming.backfill.processes import ShareError

DEFAULT = load_feature_set()


def rows_of(out: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(path) for path in sorted(out.glob("part-*.parquet"))])


def live_rows(events: pa.Table, feature_set: FeatureSet, entity: str) -> pl.DataFrame:
    """What the stream writes offline: the last row of every event."""
    program = compile_program(feature_set, feature_set.entity(entity))
    shard = Shard(program)
    rows = [
        shard.fold(project(program, batch)).rows for batch in events.to_batches(max_chunksize=700)
    ]
    frame = pl.from_arrow(pa.Table.from_batches(rows))
    assert isinstance(frame, pl.DataFrame)
    return frame.unique("event_id", keep="last", maintain_order=True)


def test_every_entity_has_its_live_rows(
    tmp_path: Path, event_file: Path, simulated: pa.Table
) -> None:
    report = backfill(event_source(event_file), DEFAULT, tmp_path / "out", part_events=2_000)
    rows = rows_of(tmp_path / "out")
    assert report.rows == report.events == len(rows) == len(simulated)
    assert report.parts == -(-len(simulated) // 2_000) > 1
    assert rows["event_id"].to_list() == simulated["event_id"].to_pylist()
    for entity in DEFAULT.entities:
        names = [output.name for output in DEFAULT.outputs_of(entity)]
        live = live_rows(simulated, DEFAULT, entity.name)
        assert len(live)
        kept = rows.join(live.select("event_id"), on="event_id", maintain_order="left")
        assert_frame_equal(
            kept.select(entity.join_key, *names), live.select(entity.join_key, *names)
        )
        others = rows.join(live.select("event_id"), on="event_id", how="anti")
        assert all(others[name].null_count() == len(others) for name in names)


def test_several_processes_write_the_same_rows(tmp_path: Path, event_file: Path) -> None:
    source = event_source(event_file)
    backfill(source, DEFAULT, tmp_path / "one", part_events=4_000)
    report = backfill(source, DEFAULT, tmp_path / "two", part_events=4_000, processes=2)
    one, two = rows_of(tmp_path / "one"), rows_of(tmp_path / "two")
    assert report.rows == len(one) == len(two)
    assert_frame_equal(one.sort("event_id"), two.sort("event_id"))
    halves = [len(pl.read_parquet(path)) for path in (tmp_path / "two").glob("*-0of2.parquet")]
    assert 0.3 < sum(halves) / len(one) < 0.7


def test_what_one_process_meets_ends_them_all(tmp_path: Path, event_file: Path) -> None:
    raw = bytearray(event_file.read_bytes())
    raw[len(raw) // 4 : len(raw) // 2] = bytes(len(raw) // 2 - len(raw) // 4)
    event_file.write_bytes(raw)
    with pytest.raises(ShareError, match="run the same command again"):
        backfill(event_source(event_file), DEFAULT, tmp_path / "out", processes=2)
    assert not list((tmp_path / "out").glob("*.parquet"))


def test_sequences_are_written_too(tmp_path: Path, event_file: Path, simulated: pa.Table) -> None:
    last = Feature(Aggregate.LAST_N, Lifetime(), "page", n=3)
    feature_set = FeatureSet("pages", (View("pages", CUSTOMER, (last,)),))
    backfill(event_source(event_file), feature_set, tmp_path / "out")
    live = live_rows(simulated, feature_set, "customer")
    (name,) = (output.name for output in feature_set.outputs_of(CUSTOMER))
    assert live[name].list.len().max() == 3
    found = rows_of(tmp_path / "out").join(live, on="event_id", maintain_order="right")
    assert_frame_equal(found.select(name), live.select(name))


def test_labels_and_repeated_events_have_no_row(tmp_path: Path, simulated: pa.Table) -> None:
    batch = simulated.slice(0, 50).to_pylist()
    label = dict.fromkeys(EVENT_SCHEMA.names) | {
        "event_id": "label",
        "event_type": "label",
        "customer_id": batch[0]["customer_id"],
        "event_time": batch[0]["event_time"],
        "label_event_id": batch[0]["event_id"],
        "label_value": 1.0,
        "label_arrival_time": batch[-1]["event_time"],
    }
    events = pa.Table.from_pylist([*batch, batch[-1], label], EVENT_SCHEMA)
    pq.write_table(events, tmp_path / "events.parquet")
    report = backfill(event_source(tmp_path / "events.parquet"), DEFAULT, tmp_path / "out")
    assert (report.events, report.rows) == (52, 50)
    assert rows_of(tmp_path / "out")["event_id"].to_list() == [row["event_id"] for row in batch]


def test_a_log_with_balances_calls_and_labels_gives_the_same_features(
    tmp_path: Path, whole_log: pa.Table, simulated: pa.Table
) -> None:
    pq.write_table(whole_log, tmp_path / "whole.parquet", row_group_size=500)
    pq.write_table(simulated, tmp_path / "sessions.parquet", row_group_size=500)
    letters = tmp_path / "letters.jsonl"
    report = backfill(
        event_source(tmp_path / "whole.parquet"), DEFAULT, tmp_path / "a", letters=letters
    )
    backfill(event_source(tmp_path / "sessions.parquet"), DEFAULT, tmp_path / "b")
    labels = len(whole_log) - whole_log["label_value"].null_count
    assert labels > 500
    assert report.late == 0
    assert not letters.exists() or not letters.read_text()
    assert (report.events, report.rows) == (len(whole_log), len(whole_log) - labels)
    rows, alone = rows_of(tmp_path / "a"), rows_of(tmp_path / "b")
    assert_frame_equal(rows.join(alone.select("event_id"), on="event_id"), alone)
    # Without a filter no feature looks at the others: their rows say nothing.
    others = rows.join(alone.select("event_id"), on="event_id", how="anti")
    names = [output.name for entity in DEFAULT.entities for output in DEFAULT.outputs_of(entity)]
    assert len(others) == len(whole_log) - labels - len(simulated) > 0
    assert all(others[name].null_count() == len(others) for name in names)


def test_late_events_are_put_in_order_or_set_aside(tmp_path: Path, simulated: pa.Table) -> None:
    rng = np.random.default_rng(1)
    times = simulated["event_time"].cast(pa.int64()).to_numpy()
    behind = rng.integers(0, timedelta(minutes=59) // timedelta(microseconds=1), len(times))
    shuffled = simulated.take(pa.array(np.argsort(times + behind, kind="stable")))
    late = shuffled.slice(0, 1)
    pq.write_table(simulated, tmp_path / "events.parquet")
    pq.write_table(
        pa.concat_tables([shuffled, late]), tmp_path / "late.parquet", row_group_size=300
    )
    backfill(event_source(tmp_path / "events.parquet"), DEFAULT, tmp_path / "a")
    letters = tmp_path / "letters.jsonl"
    report = backfill(
        event_source(tmp_path / "late.parquet"), DEFAULT, tmp_path / "b", letters=letters
    )
    assert_frame_equal(
        rows_of(tmp_path / "a").sort("event_id"), rows_of(tmp_path / "b").sort("event_id")
    )
    assert report.late == 1
    assert late["event_id"][0].as_py() in letters.read_text()


def test_missing_parts_are_written_and_others_kept(tmp_path: Path, event_file: Path) -> None:
    source, out = event_source(event_file), tmp_path / "out"
    backfill(source, DEFAULT, out, part_events=1_500)
    whole = rows_of(out)
    parts = sorted(out.glob("part-*.parquet"))
    stamps = {path: path.stat().st_mtime_ns for path in parts}
    for path in (parts[1], parts[-1]):
        path.unlink()
    report = backfill(source, DEFAULT, out, part_events=1_500)
    assert (report.parts, report.parts_kept) == (2, len(parts) - 2)
    assert_frame_equal(rows_of(out), whole)
    assert all(path.stat().st_mtime_ns == stamps[path] for path in parts[2:-1])
    again = backfill(source, DEFAULT, out, part_events=1_500)
    assert (again.parts, again.parts_kept) == (0, len(parts))


def test_another_job_is_refused(tmp_path: Path, event_file: Path) -> None:
    out = tmp_path / "out"
    backfill(event_source(event_file), DEFAULT, out)
    with pytest.raises(InputError, match="other definitions"):
        backfill(event_source(event_file), FeatureSet("one", (CUSTOMER_SESSION,)), out)
    os.utime(event_file, ns=(1, 1))
    with pytest.raises(InputError, match="events that have changed"):
        backfill(event_source(event_file), DEFAULT, out)
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.parquet").write_bytes(b"")
    with pytest.raises(InputError, match="something else"):
        backfill(event_source(event_file), DEFAULT, other)


_KILLED = """
import sys
from pathlib import Path
from feature_repo.contracts.feature_set import load_feature_set
from streaming.backfill import backfill, event_source
backfill(event_source(Path(sys.argv[1])), load_feature_set(), Path(sys.argv[2]), part_events=300)
"""


def test_a_killed_backfill_goes_on_where_it_was(tmp_path: Path, event_file: Path) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", _KILLED, str(event_file), str(out)])
    deadline = time.monotonic() + 120
    while len(list(out.glob("part-*.parquet"))) < 3 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = len(list(out.glob("part-*.parquet")))
    source = event_source(event_file)
    report = backfill(source, DEFAULT, out, part_events=300)
    assert report.parts_kept == kept >= 3
    backfill(source, DEFAULT, tmp_path / "whole", part_events=300)
    assert_frame_equal(rows_of(out), rows_of(tmp_path / "whole"))
    assert not list(out.glob(".*.part"))


def test_memory_does_not_follow_the_file(
    tmp_path: Path, simulated: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight times the file, about the same peak of Arrow's memory."""
    monkeypatch.setattr("streaming.backfill.source.BATCH_ROWS", 1_000)
    peaks = []
    for copies in (2, 16):
        path = tmp_path / f"{copies}.parquet"
        with pq.ParquetWriter(path, EVENT_SCHEMA) as writer:
            for number in range(copies):
                later = pa.scalar(timedelta(days=3 * number), pa.duration("us"))
                moved = pc.add(simulated["event_time"], later)
                field = EVENT_SCHEMA.field("event_time")
                writer.write_table(simulated.set_column(1, field, moved), row_group_size=1_000)
        del moved
        held: list[int] = []
        backfill(
            event_source(path),
            DEFAULT,
            tmp_path / f"out-{copies}",
            progress=lambda _, held=held: held.append(pa.total_allocated_bytes()),  # type: ignore[misc]
        )
        peaks.append(max(held))
    assert peaks[1] < peaks[0] * 1.3


def test_an_id_that_comes_again_for_another_recipient_is_one_event(
    tmp_path: Path, simulated: pa.Table
) -> None:
    payment = next(row for row in simulated.to_pylist() if row["counterparty_id"])
    events = pa.Table.from_pylist([payment, payment | {"counterparty_id": "x"}], EVENT_SCHEMA)
    pq.write_table(events, tmp_path / "events.parquet")
    report = backfill(event_source(tmp_path / "events.parquet"), DEFAULT, tmp_path / "out")
    assert report.rows == 1


def test_an_id_is_a_customers_own(tmp_path: Path, simulated: pa.Table) -> None:
    payment = next(row for row in simulated.to_pylist() if row["counterparty_id"])
    events = pa.Table.from_pylist([payment, payment | {"customer_id": "other"}], EVENT_SCHEMA)
    pq.write_table(events, tmp_path / "events.parquet")
    report = backfill(event_source(tmp_path / "events.parquet"), DEFAULT, tmp_path / "out")
    assert report.rows == 2
