"""Features as of the rows of a spine: at events, in between, and after a silence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from feature_repo.contracts.errors import InputError
from feature_repo.contracts.feature_set import load_feature_set
from streaming.backfill import backfill, backfill_spine, event_source
from tests.streaming.backfill.conftest import START

DEFAULT = load_feature_set()


def answers(event_file: Path, spine: pl.DataFrame, folder: Path) -> pl.DataFrame:
    folder.mkdir()
    spine.write_parquet(folder / "spine.parquet")
    out = folder / "out"
    report = backfill_spine(event_source(event_file), DEFAULT, folder / "spine.parquet", out)
    rows = pl.read_parquet(sorted(out.glob("part-*.parquet")))
    assert report.rows == len(spine) == len(rows)
    assert rows.select(spine.columns).equals(spine)  # all rows, in their order
    return rows


def test_at_an_event_it_is_the_events_row(tmp_path: Path, event_file: Path) -> None:
    backfill(event_source(event_file), DEFAULT, tmp_path / "rows")
    rows = pl.read_parquet(sorted((tmp_path / "rows").glob("part-*.parquet")))
    customer, corridor, counterparty = DEFAULT.entities
    for entity, known in (
        (customer, rows),
        (corridor, rows.filter(pl.col("corridor_payment_submitted_count_1h").is_not_null())),
        (
            counterparty,
            rows.filter(pl.col("counterparty_payment_submitted_count_24h").is_not_null()),
        ),
    ):
        # Of events at one instant, the last one's row is what is read at that instant.
        last = known.unique([entity.join_key, "event_time"], keep="last")
        last = last.sample(min(len(last), 400), seed=1, shuffle=True)
        names = [output.name for output in DEFAULT.outputs_of(entity)]
        spine = last.select(entity.join_key, event_timestamp="event_time", note=pl.lit("x"))
        found = answers(event_file, spine, tmp_path / entity.name)
        assert_frame_equal(found.select(names), last.select(names))


def test_after_a_silence_windows_are_empty_and_sessions_over(
    tmp_path: Path, event_file: Path, simulated: pa.Table
) -> None:
    times = simulated["event_time"].to_pylist()
    who = simulated["customer_id"][0].as_py()
    last = max(
        at
        for at, name in zip(times, simulated["customer_id"].to_pylist(), strict=True)
        if name == who
    )
    count = simulated["customer_id"].to_pylist().count(who)
    instants = [last, last + timedelta(minutes=6), last + timedelta(hours=1), last + timedelta(8)]
    spine = pl.DataFrame(
        {"customer_id": [who] * 4, "event_timestamp": instants},
        schema_overrides={"event_timestamp": pl.Datetime("us", "UTC")},
    )
    found = answers(event_file, spine, tmp_path / "spine")
    assert found["event_count_5m"][0] > 0
    assert found["event_count_5m"][1:].to_list() == [0, 0, 0]
    assert found["session_event_count"][1] > 0  # within the gap
    assert found["session_event_count"][2:].to_list() == [0, 0]
    assert found["event_count_7d"][3] == 0
    assert found["lifetime_event_count"].to_list() == [count] * 4


def test_strangers_nulls_and_instants_before_everything(tmp_path: Path, event_file: Path) -> None:
    known = pl.read_parquet(event_file)["customer_id"][0]
    spine = pl.DataFrame(
        {
            "customer_id": ["nobody", None, known, known],
            "corridor": ["GB-NG", "GB-NG", None, "GB-NG"],
            "event_timestamp": [
                START + timedelta(days=9),
                START + timedelta(days=9),
                START - timedelta(days=9),
                None,
            ],
        },
        schema_overrides={"event_timestamp": pl.Datetime("us", "UTC")},
    )
    found = answers(event_file, spine, tmp_path / "spine")
    assert found["lifetime_event_count"].to_list() == [0, None, 0, None]
    assert found["corridor_payment_submitted_count_1h"].null_count() == 2
    assert not any(name.startswith("counterparty_") for name in found.columns)


def test_csv_with_instants_as_text(tmp_path: Path, event_file: Path) -> None:
    spine = tmp_path / "spine.csv"
    spine.write_text("customer_id,event_timestamp\n007,2025-06-03T00:00:00Z\n")
    backfill_spine(event_source(event_file), DEFAULT, spine, tmp_path / "out")
    found = pl.read_parquet(sorted((tmp_path / "out").glob("part-*.parquet")))
    assert found["customer_id"].to_list() == ["007"]
    assert found["event_timestamp"].to_list() == [datetime(2025, 6, 3, tzinfo=UTC)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("who,event_timestamp\na,2025-06-03T00:00:00Z\n", "a key column"),
        ("customer_id,when\na,2025-06-03T00:00:00Z\n", "event_timestamp"),
        ("customer_id,event_timestamp\na,noon\n", "ISO 8601"),
        ("customer_id,event_timestamp,event_count_5m\na,2025-06-03T00:00:00Z,1\n", "named as"),
    ],
)
def test_what_is_no_spine_is_refused(
    tmp_path: Path, event_file: Path, text: str, problem: str
) -> None:
    (tmp_path / "spine.csv").write_text(text)
    with pytest.raises(InputError, match=problem):
        backfill_spine(event_source(event_file), DEFAULT, tmp_path / "spine.csv", tmp_path / "out")
