"""Event files in the order in which the log knew the events."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.contracts.errors import InputError
from feature_repo.contracts.events import EVENT_SCHEMA, Event, EventType, to_epoch_us
from feature_repo.engine.projection import log_times_us
from feature_repo.stores.event_history import ORDER_COLUMNS, EventFile, read_in_log_order
from tests.streaming.made_events import START, batch_of, page_view

COLUMNS = ORDER_COLUMNS | {"event_id", "customer_id"}


def label(number: int, minutes: int) -> Event:
    """Of the n-th event, known so many minutes after it."""
    return Event(
        event_id=f"l{number}",
        event_time=START + timedelta(minutes=number),
        customer_id="c1",
        event_type=EventType.LABEL,
        label_event_id=f"e{number}",
        label_value=1.0,
        label_arrival_time=START + timedelta(minutes=number + minutes),
    )


def write(path: Path, events: list[Event], group: int = 4, statistics: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_batches([batch_of(events)])
    pq.write_table(table, path, row_group_size=group, write_statistics=statistics)


def read(source: Path, until_us: int | None = None) -> list[str]:
    ids: list[str] = []
    for batch in read_in_log_order(source, COLUMNS, until_us):
        assert batch.schema.names == [name for name in EVENT_SCHEMA.names if name in COLUMNS]
        times = log_times_us(batch)
        assert (np.diff(times) >= 0).all()
        ids += batch.column("event_id").to_pylist()
    return ids


@pytest.mark.parametrize("statistics", [True, False])
def test_partitions_are_merged_by_log_time(tmp_path: Path, statistics: bool) -> None:
    rng = np.random.default_rng(2)
    numbers = rng.permutation(200)
    for partition in range(4):
        # Nearly ordered within a partition, and cut into files by day.
        own = sorted(numbers[partition::4].tolist(), key=lambda n: n + 5 * rng.random())
        for day in (0, 1):
            write(
                tmp_path / f"event_date=2026-03-0{day + 1}" / f"1-{partition}-{day}.parquet",
                [page_view(n) for n in own if (n >= 30) == day],
                statistics=statistics,
            )
    assert read(tmp_path) == [f"e{n}" for n in range(200)]
    until = to_epoch_us(START + timedelta(minutes=99))
    assert read(tmp_path, until) == [f"e{n}" for n in range(100)]


def test_a_label_comes_when_it_became_known(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [page_view(n) for n in range(10)])
    write(tmp_path / "b.parquet", [label(2, 3), label(0, 5), label(1, 7)], group=1)
    ids = read(tmp_path)
    known = {f"e{n}": n for n in range(10)} | {"l2": 5, "l0": 5, "l1": 8}
    assert [known[name] for name in ids] == sorted(known.values())
    assert len(ids) == 13


def test_at_one_instant_the_order_of_the_names_holds(tmp_path: Path) -> None:
    same = [page_view(n, at=START) for n in range(12)]
    write(tmp_path / "z" / "1-0-0.parquet", same[:6], group=2)
    write(tmp_path / "a" / "1-0-6.parquet", same[6:], group=2)
    assert read(tmp_path) == [f"e{n}" for n in range(12)]


def test_one_row_group_an_instant_at_a_time(tmp_path: Path) -> None:
    """What is held does not grow with the files: batches come out as the files go in."""
    for number in range(20):
        events = [page_view(number * 10 + n) for n in range(10)]
        write(tmp_path / f"1-0-{number:04d}.parquet", events, group=10)
    sizes = [len(batch) for batch in read_in_log_order(tmp_path, COLUMNS)]
    assert sizes == [10] * 20


def test_dictionaries_and_plain_texts_mix(tmp_path: Path) -> None:
    events = [page_view(n, customer=f"c{n}") for n in range(8)]
    table = pa.Table.from_batches([batch_of(events)])
    pq.write_table(table.slice(0, 4), tmp_path / "a.parquet", use_dictionary=False)
    pq.write_table(table.slice(3), tmp_path / "b.parquet")
    customers = [
        name
        for batch in read_in_log_order(tmp_path, COLUMNS)
        for name in batch.column("customer_id").to_pylist()
    ]
    assert customers == ["c0", "c1", "c2", "c3", "c3", "c4", "c5", "c6", "c7"]


def test_what_is_no_event_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="an event file, or a folder"):
        list(read_in_log_order(tmp_path, COLUMNS))
    (tmp_path / "a.parquet").write_bytes(b"no Parquet")
    with pytest.raises(InputError, match="a readable Parquet file"):
        list(read_in_log_order(tmp_path, COLUMNS))
    pq.write_table(pa.table({"event_id": [1]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="missing"):
        EventFile(tmp_path / "a.parquet", COLUMNS)
    with pytest.raises(InputError, match="event_id is int64, not string"):
        EventFile(tmp_path / "a.parquet", ["event_id"])
