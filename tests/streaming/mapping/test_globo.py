"""The shipped mapping of the public Globo clicks, on the real file where it is at hand."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from feature_repo.contracts.money import ExchangeRates
from feature_repo.contracts.settings import ROOT
from streaming.mapping.dead_letters import DeadLetters
from streaming.mapping.ingest import ingest
from streaming.mapping.spec import Mapping

CLICKS = Path(ROOT).parent / "shared" / "data" / "clickstream_globo" / "clicks.parquet"
MAPPING = ROOT / "docs" / "examples" / "globo.yaml"
needs_clicks = pytest.mark.skipif(
    not CLICKS.is_file(), reason="the Globo clicks are not beside the checkout (../shared/data)"
)


def test_the_mapping_is_read() -> None:
    mapping = Mapping.load(MAPPING)
    assert mapping.source.skip_where == {"ts_imputed": "true"}
    assert mapping.columns[1:] == (
        "session_id",
        "click_article_id",
        "click_ts",
        "user_id",
        "click_referrer_type",
        "click_deviceGroup",
    )


@needs_clicks
def test_real_clicks_go_through(tmp_path: Path) -> None:
    first = next(pq.ParquetFile(CLICKS).iter_batches(60_000))
    source = tmp_path / "clicks.parquet"
    with pq.ParquetWriter(source, first.schema) as writer:
        writer.write_batch(first)
    out = tmp_path / "events.parquet"
    with DeadLetters.for_source(tmp_path / "dead", source) as letters:
        report = ingest(source, Mapping.load(MAPPING), out, ExchangeRates(), letters)
    imputed = pc.sum(first["ts_imputed"]).as_py()
    assert imputed > 10_000
    assert (report.rows_read, report.skipped, report.dead_letters) == (60_000, imputed, 0)
    events = pq.read_table(out)
    assert events.num_rows == 60_000 - imputed
    real = first.filter(pc.invert(first["ts_imputed"]))
    assert sorted(events["page"].to_pylist()) == sorted(
        str(page) for page in real["click_article_id"].to_pylist()
    )
    times = events["event_time"].to_pylist()
    assert times == sorted(real["click_ts"].to_pylist())
    assert set(events["channel"].to_pylist()) <= {f"referrer_{n}" for n in range(1, 8)}
    assert set(events["device"].to_pylist()) <= {f"device_{n}" for n in range(1, 6)}
    assert set(events["event_type"].to_pylist()) == {"page_view"}


@needs_clicks
def test_the_ids_of_all_real_clicks_differ_and_all_values_are_translated() -> None:
    mapping = Mapping.load(MAPPING)
    ids = ", ".join(mapping.fields["event_id"].columns)
    channel, device = (mapping.fields[name] for name in ("channel", "device"))
    found = duckdb.sql(
        f"SELECT count(*), count(DISTINCT ({ids})),"
        f" list(DISTINCT {channel.column})::VARCHAR[], list(DISTINCT {device.column})::VARCHAR[]"
        f" FROM read_parquet('{CLICKS}') WHERE NOT ts_imputed"
    ).fetchall()
    [(rows, distinct, channels, devices)] = found
    assert rows == distinct == 1_939_587
    assert set(channels) <= set(channel.translate)
    assert set(devices) <= set(device.translate)
