"""docs/examples/card_fraud: its features against pandas, over the public transactions.

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
MORE = "definitions_more.py"
SECOND = np.timedelta64(1, "s")

pytestmark = pytest.mark.skipif(
    not TRANSACTIONS.is_file(), reason=f"no public data at {TRANSACTIONS}"
)


def days(count: int) -> np.timedelta64:
    """So many days."""
    return np.timedelta64(count, "D")


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


def rows_of(
    entity_name: str, events: pa.Table, definitions: str = "definitions.py"
) -> pd.DataFrame:
    """The live rows of an entity, by transaction, from batches of 20,000."""
    feature_set = load_feature_set(EXAMPLE / definitions)
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


def test_more_customer_features_equal_pandas(
    transactions: Path, ingested: tuple[IngestReport, pa.Table]
) -> None:
    found = rows_of("customer", ingested[1], MORE)
    frame = expected_of(transactions)
    frame = frame[frame["CUSTOMER_ID"] < CUSTOMERS]
    frame = frame.assign(CENTS=(frame["TX_AMOUNT"] * 100).round())
    found = found.loc[frame.index]
    compared = 0
    for _, card in frame.groupby("CUSTOMER_ID"):
        rows, cents = found.loc[card.index], card["CENTS"].to_numpy()
        at = card["TX_DATETIME"].to_numpy()
        for row in range(0, len(card), 23):
            now, given = at[row], rows.iloc[row]
            age = now - at
            week_old = cents[age >= days(DELAY)]
            if len(week_old):
                usual = given["lifetime_transaction_amount_ref_minor_mean_delay_7d"]
                assert usual == pytest.approx(week_old.mean())
                spread = given["lifetime_transaction_amount_ref_minor_std_delay_7d"]
                assert spread == pytest.approx(week_old.std(), abs=1e-6)
                most = given["lifetime_transaction_amount_ref_minor_max_delay_7d"]
                assert most == week_old.max()
                compared += 1
            for length, name in ((1, "24h"), (7, "7d"), (14, "14d")):
                earlier = cents[(age > days(0)) & (age <= days(length))]
                most = given[f"transaction_amount_ref_minor_max_{name}_delay_1us"]
                assert np.isnan(most) if not len(earlier) else most == earlier.max()
            # Of two transactions in one second only the first knows nothing of the other.
            upto = np.arange(len(card)) <= row
            spent = {n: cents[upto & (age >= days(0)) & (age < days(n))] for n in (7, 14, 30)}
            prefix = "transaction_amount_ref_minor"
            assert given[f"{prefix}_mean_14d"] == pytest.approx(spent[14].mean())
            assert given[f"{prefix}_std_7d"] == pytest.approx(spent[7].std(), abs=1e-6)
            assert given[f"{prefix}_std_30d"] == pytest.approx(spent[30].std(), abs=1e-6)
            assert given[f"{prefix}_max_30d"] == spent[30].max()
    assert compared > 1_000


def test_more_terminal_features_equal_pandas(
    transactions: Path, ingested: tuple[IngestReport, pa.Table]
) -> None:
    found = rows_of("terminal", ingested[1], MORE)
    frame = expected_of(transactions)
    frame = frame[frame["TERMINAL_ID"] < TERMINALS]
    found = found.loc[frame.index]
    with_frauds = 0
    for _, shop in frame.groupby("TERMINAL_ID"):
        rows, fraud = found.loc[shop.index], shop["TX_FRAUD"].to_numpy()
        at = shop["TX_DATETIME"].to_numpy()
        for row in range(0, len(shop), 11):
            given, age = rows.iloc[row], at[row] - at
            known = age >= days(DELAY)
            for length in (3, 14, 21, 28):
                labels = fraud[known & (age < days(DELAY + length))]
                rate = given[f"terminal_fraud_label_value_mean_{length}d_delay_7d"]
                assert rate == pytest.approx(labels.mean() if len(labels) else 0.0)
            for length in (7, 14, 28):
                labels = fraud[known & (age < days(DELAY + length))]
                total = given[f"terminal_fraud_label_value_sum_{length}d_delay_7d"]
                assert total == labels.sum()
            last = given["terminal_lifetime_fraud_label_value_last_delay_7d"]
            assert np.isnan(last) if not known.any() else last == fraud[known][-1]
            for length in (21, 28):
                first = at[known & (age < days(DELAY + length)) & (fraud == 1)]
                start = given[f"terminal_fraudulent_start_us_{length}d_delay_7d"]
                expected = first[0].astype("datetime64[us]").astype(int) if len(first) else None
                assert np.isnan(start) if expected is None else start == expected
                with_frauds += len(first) > 0
            for value, name in ((1, "fraudulent"), (0, "honest")):
                ages = age[known & (fraud == value)]
                since = given[f"terminal_lifetime_seconds_since_{name}_delay_7d"]
                assert np.isnan(since) if not len(ages) else since == ages[-1] / SECOND
    assert with_frauds > 100


@pytest.mark.parametrize("name", ["definitions.py", MORE])
def test_backfill_and_live_replay_are_identical(
    transactions: Path,
    ingested: tuple[IngestReport, pa.Table],
    tmp_path: Path,
    valkey: str,
    name: str,
) -> None:
    report, _ = ingested
    events = transactions.with_name("events.parquet")
    definitions = EXAMPLE / name
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
