"""docs/examples/card_fraud: its 15 features against pandas, over the public transactions.

And the same from a backfill as from a live replay through the dataflow, bit for bit.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.contracts.feature_set import load_feature_set
from feature_repo.contracts.money import ExchangeRates
from feature_repo.contracts.settings import ROOT, Settings
from feature_repo.engine.program import compile_program
from feature_repo.engine.projection import project
from feature_repo.engine.shard import Shard
from streaming.backfill import backfill, event_source
from streaming.mapping.dead_letters import DeadLetters
from streaming.mapping.ingest import IngestReport, ingest
from streaming.mapping.spec import Mapping
from streaming.run import run_file

EXAMPLE = ROOT / "docs" / "examples" / "card_fraud"
TRANSACTIONS = ROOT.parent / "shared" / "data" / "fraud_fdh" / "transactions.parquet"
CUSTOMERS, TERMINALS = 120, 240  # with ids below: all that they did in 183 days
DAYS = (1, 7, 30)
DELAY = 7

pytestmark = pytest.mark.skipif(
    not TRANSACTIONS.is_file(), reason=f"no public data at {TRANSACTIONS}"
)


@pytest.fixture(scope="module")
def transactions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every transaction of some customers and of some terminals."""
    path = tmp_path_factory.mktemp("card_fraud") / "transactions.parquet"
    wanted = (pl.col("CUSTOMER_ID") < CUSTOMERS) | (pl.col("TERMINAL_ID") < TERMINALS)
    pl.scan_parquet(TRANSACTIONS).filter(wanted).collect().write_parquet(path)
    return path


@pytest.fixture(scope="module")
def ingested(transactions: Path) -> tuple[IngestReport, pa.Table]:
    mapping = Mapping.load(EXAMPLE / "mapping.yaml")
    out = transactions.with_name("events.parquet")
    with DeadLetters.for_source(transactions.parent / "dead", transactions) as letters:
        report = ingest(transactions, mapping, out, ExchangeRates(), letters)
    return report, pq.read_table(out)


def rows_of(entity_name: str, events: pa.Table) -> pd.DataFrame:
    """The live rows of an entity, by transaction, from batches of 20,000."""
    feature_set = load_feature_set(EXAMPLE / "definitions.py")
    program = compile_program(feature_set, feature_set.entity(entity_name))
    shard = Shard(program)
    rows = [
        shard.fold(project(program, batch), states=False).rows
        for batch in events.combine_chunks().to_batches(max_chunksize=20_000)
    ]
    frame = pa.Table.from_batches(rows).to_pandas()
    frame["event_id"] = frame["event_id"].astype(int)
    by_id: pd.DataFrame = frame.set_index("event_id").sort_index()
    return by_id


def expected_of(transactions: Path) -> pd.DataFrame:
    """Transactions by id, with their instant as the index of the windows."""
    frame = pd.read_parquet(transactions).sort_values("TRANSACTION_ID")
    return frame.set_index("TRANSACTION_ID", drop=False)


def rolled(frame: pd.DataFrame, key: str, column: str, days: int, how: str) -> pd.Series:
    """A rolling aggregate of each key's transactions, by transaction."""
    parts = []
    for _, part in frame.groupby(key):
        values = part.set_index("TX_DATETIME")[column].rolling(f"{days}D").agg(how)
        parts.append(pd.Series(values.to_numpy(), index=part.index))
    return pd.concat(parts).sort_index()


def test_every_row_is_an_event_and_a_label(ingested: tuple[IngestReport, pa.Table]) -> None:
    report, events = ingested
    assert report.dead_letters == report.skipped == 0
    assert report.events == 2 * report.rows_read == 2 * report.labels == len(events)
    assert report.empty_columns == ()


def test_customer_features_equal_pandas(
    transactions: Path, ingested: tuple[IngestReport, pa.Table]
) -> None:
    found = rows_of("customer", ingested[1])
    frame = expected_of(transactions)
    assert len(found) == len(frame)
    frame = frame[frame["CUSTOMER_ID"] < CUSTOMERS]
    found = found.loc[frame.index]
    instant = frame["TX_DATETIME"].dt
    cents = (frame["TX_AMOUNT"] * 100).round()
    assert (found["lifetime_transaction_amount_ref_minor_last"] == cents).all()
    assert (found["is_weekend"] == (instant.dayofweek >= 5)).all()
    assert (found["is_night"] == (instant.hour <= 6)).all()
    assert found["is_weekend"].nunique() == found["is_night"].nunique() == 2
    for days, name in zip(DAYS, ("24h", "7d", "30d"), strict=True):
        count = rolled(frame, "CUSTOMER_ID", "TX_AMOUNT", days, "count")
        assert (found[f"transaction_count_{name}"] == count).all()
        mean = rolled(frame, "CUSTOMER_ID", "TX_AMOUNT", days, "mean")
        # pandas adds and takes away floats as its window moves on; ours are sums of cents.
        np.testing.assert_allclose(
            found[f"transaction_amount_ref_minor_mean_{name}"] / 100, mean, rtol=1e-7
        )


def test_terminal_features_equal_pandas(
    transactions: Path, ingested: tuple[IngestReport, pa.Table]
) -> None:
    found = rows_of("terminal", ingested[1])
    frame = expected_of(transactions)
    assert len(found) == len(frame)
    frame = frame[frame["TERMINAL_ID"] < TERMINALS]
    found = found.loc[frame.index]
    younger = {
        how: rolled(frame, "TERMINAL_ID", "TX_FRAUD", DELAY, how) for how in ("count", "sum")
    }
    for days, name in zip(DAYS, ("24h", "7d", "30d"), strict=True):
        count, frauds = (
            rolled(frame, "TERMINAL_ID", "TX_FRAUD", DELAY + days, how) - younger[how]
            for how in ("count", "sum")
        )
        assert (found[f"terminal_transaction_count_{name}_delay_7d"] == count).all()
        rate = (frauds / count).fillna(0.0)
        np.testing.assert_allclose(
            found[f"terminal_fraud_label_value_mean_{name}_delay_7d"], rate, rtol=1e-9
        )
        assert (rate > 0).any()


def test_backfill_and_live_replay_are_identical(
    transactions: Path, ingested: tuple[IngestReport, pa.Table], tmp_path: Path, valkey: str
) -> None:
    report, _ = ingested
    events = transactions.with_name("events.parquet")
    definitions = EXAMPLE / "definitions.py"
    feature_set = load_feature_set(definitions)
    settings = Settings.from_env(
        {
            "DAIMA_HOME": str(tmp_path / "home"),
            "DAIMA_REDIS": valkey,
            "DAIMA_DEFINITIONS": str(definitions),
        }
    )
    past = backfill(event_source(events), feature_set, tmp_path / "past")
    live = run_file(events, settings)
    assert past.rows == report.rows_read
    assert (live.events, live.dead_letters) == (report.events, 0)

    found = pl.read_parquet(tmp_path / "past" / "*.parquet").sort("event_id")
    assert found.height == report.rows_read
    for entity in feature_set.entities:
        names = [output.name for output in feature_set.outputs_of(entity)]
        rows = pl.read_parquet(settings.features_table(entity.name) / "**" / "*.parquet")
        assert rows.height == report.rows_read  # nothing was late, so no row was given again
        assert rows.sort("event_id").select(names).equals(found.select(names))
