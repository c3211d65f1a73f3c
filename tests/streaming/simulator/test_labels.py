"""Labels: of every login whether a call came, of every payment whether it was fraud."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.contracts.events import EVENT_SCHEMA
from feature_repo.contracts.features import CUSTOMER, FEATURE_SET
from feature_repo.contracts.money import ExchangeRates
from feature_repo.engine.program import compile_program
from streaming.admission import Admission
from streaming.log.frames import Frame, split_by_shard
from streaming.mapping.dead_letters import DeadLetters
from streaming.mapping.ingest import ingest
from streaming.mapping.spec import parse_mapping
from streaming.mapping.surely_valid import surely_valid
from streaming.simulator import Simulation, World, simulate, write_events
from streaming.simulator.labels import look_back_days
from tests.streaming.simulator.conftest import START

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def events(month: Simulation) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(month.events))


@pytest.fixture(scope="module")
def labels(events: pl.DataFrame) -> pl.DataFrame:
    return events.filter(pl.col("event_type") == "label")


def labelled(events: pl.DataFrame, labels: pl.DataFrame, kind: str) -> pl.DataFrame:
    """Events of a type with their label's columns, null where none has arrived."""
    columns = labels.select(
        "label_value",
        "label_arrival_time",
        event_id="label_event_id",
        label_time="event_time",
        label_customer="customer_id",
        label_counterparty="counterparty_id",
        label_corridor=pl.concat_str("send_country", "receive_country"),
    )
    of_kind = events.filter(pl.col("event_type") == kind).drop("label_value", "label_arrival_time")
    return of_kind.join(columns, on="event_id", how="left")


def test_every_login_and_payment_has_one_label_and_nothing_else_has(
    month: Simulation, events: pl.DataFrame, labels: pl.DataFrame
) -> None:
    assert labels["label_event_id"].n_unique() == labels.height
    known = labels.join(
        events.select(label_event_id="event_id", kind="event_type"), on="label_event_id"
    )
    assert set(known["kind"]) == {"login", "payment_submitted"}
    # What is not in the window's events lies before it.
    before = labels.join(events.select(label_event_id="event_id"), on="label_event_id", how="anti")
    assert before["event_time"].max() < START  # type: ignore[operator]
    assert before.height > 1_000
    for kind, days in (("login", 1), ("payment_submitted", 10)):
        found = labelled(events, labels, kind)
        due = found.filter(pl.col("event_time") < month.end - timedelta(days=days))
        assert due["label_value"].null_count() == 0
        assert due.height > 5_000
        assert found["label_value"].null_count() > 0  # some have not arrived by the end


def test_a_label_carries_its_events_time_and_texts_and_no_money(
    events: pl.DataFrame, labels: pl.DataFrame
) -> None:
    for name in ("amount_minor", "fee_minor", "currency", "amount_ref_minor", "fee_ref_minor"):
        assert labels[name].null_count() == labels.height
    found = labelled(events, labels, "payment_submitted").drop_nulls("label_value")
    assert (found["label_time"] == found["event_time"]).all()
    assert (found["label_customer"] == found["customer_id"]).all()
    assert (found["label_counterparty"] == found["counterparty_id"]).all()
    assert (found["label_corridor"] == found["send_country"] + found["receive_country"]).all()


def test_fraud_labels_are_the_truth_and_arrive_after_about_a_week(
    month: Simulation, events: pl.DataFrame, labels: pl.DataFrame
) -> None:
    found = labelled(events, labels, "payment_submitted").drop_nulls("label_value")
    truth = found.join(month.truth.payments.select("event_id", "fraud"), on="event_id")
    assert truth.height == found.height
    assert ((truth["fraud"] != "none") == (truth["label_value"] == 1)).all()
    days = (found["label_arrival_time"] - found["event_time"]).dt.total_seconds() / 86_400
    whole = days.filter(found["event_time"] < month.end - 11 * DAY)
    assert whole.mean() == pytest.approx((4 + 6.5 + 10) / 3, abs=0.05)
    assert whole.min() >= 4  # type: ignore[operator]
    assert whole.max() <= 10  # type: ignore[operator]
    assert whole.std() > 1  # type: ignore[operator]
    # When a label comes says nothing of what it says.
    fraud = found.with_columns(days=days).filter(pl.col("event_time") < month.end - 11 * DAY)
    late = fraud.filter(pl.col("label_value") == 1)["days"]
    assert late.mean() == pytest.approx(whole.mean(), abs=4 * 1.3 / len(late) ** 0.5)


def test_call_labels_say_whether_a_call_came_within_a_day(
    month: Simulation, events: pl.DataFrame, labels: pl.DataFrame
) -> None:
    logins = labelled(events, labels, "login").filter(
        pl.col("event_time") < month.end - 2 * DAY, pl.col("event_time") > START + 3 * DAY
    )
    calls = events.filter(pl.col("event_type") == "support_contact").select(
        "customer_id", called="event_time", event_time="event_time"
    )
    # The first call at or after each login, found in another way than the simulator's.
    first = logins.sort("event_time").join_asof(
        calls.sort("event_time"), on="event_time", by="customer_id", strategy="forward"
    )
    within = (first["called"] - first["event_time"] < DAY).fill_null(False)
    assert (within == (first["label_value"] == 1)).all()
    assert 0.03 < within.mean() < 0.06  # type: ignore[operator]
    positive, negative = first.filter(within), first.filter(~within)
    assert (positive["label_arrival_time"] == positive["called"]).all()
    assert (negative["label_arrival_time"] == negative["event_time"] + DAY).all()


def test_every_login_shows_the_balance_at_its_instant(
    month: Simulation, events: pl.DataFrame
) -> None:
    place = events.with_row_index("place")
    logins = place.filter(pl.col("event_type") == "login")
    shown = place.filter(pl.col("event_type") == "financial_snapshot").select(
        "event_time",
        "customer_id",
        "currency",
        "amount_minor",
        "amount_ref_minor",
        "fee_minor",
        after="place",
    )
    pairs = logins.drop("currency", "amount_minor", "amount_ref_minor", "fee_minor").join(
        shown, on=["customer_id", "event_time"]
    )
    assert pairs.height == logins.height == shown.height
    assert (pairs["after"] > pairs["place"]).all()
    currency = {country.code: country.currency for country in month.world.countries}
    assert (pairs["send_country"].replace_strict(currency) == pairs["currency"]).all()
    assert shown["fee_minor"].null_count() == shown.height
    truth = pairs.join(
        month.truth.sessions.select(event_id="first_event_id", balance_usd="balance_usd"),
        on="event_id",
    )
    cents = (truth["balance_usd"] * 100).to_numpy()
    assert truth["amount_ref_minor"].to_numpy() == pytest.approx(cents, abs=5)


def test_the_dataflow_and_the_mapping_take_every_event(month: Simulation, tmp_path: Path) -> None:
    table = month.events.combine_chunks()
    assert all(surely_valid(batch) for batch in table.to_batches())
    programs = {e.name: compile_program(FEATURE_SET, e) for e in FEATURE_SET.entities}
    admitted: list[int] = []
    path = tmp_path / "letters.jsonl"
    with DeadLetters(path) as letters:
        admission = Admission(FEATURE_SET, programs, letters, admitted=admitted.append)
        offset = 0
        for batch in table.to_batches(max_chunksize=20_000):
            frames = []
            for shard, rows in split_by_shard(batch, batch.column("customer_id"), 4):
                offset += len(rows)
                frames.append(Frame(CUSTOMER.name, shard, offset, rows))
            admission.admit(frames)
    assert sum(admitted) == table.num_rows
    assert not path.exists() or not path.read_text()


def test_windows_look_back_as_far_as_labels_reach(world: World) -> None:
    assert look_back_days(world) == 11
    spans = msgspec.structs.replace(world.labels.fraud_days, most=20.5)
    slow = msgspec.structs.replace(
        world, labels=msgspec.structs.replace(world.labels, fraud_days=spans)
    )
    assert look_back_days(slow) == 22
    window = {"customers": 400, "start": START, "seed": 3}
    joint = simulate(slow, end=START + 2 * DAY, **window)  # type: ignore[arg-type]
    first = simulate(slow, end=START + DAY, **window)  # type: ignore[arg-type]
    second = simulate(slow, customers=400, start=START + DAY, end=START + 2 * DAY, seed=3)
    parts = pa.concat_tables([first.events, second.events]).combine_chunks()
    assert parts.equals(joint.events.combine_chunks())
    old = pl.DataFrame(pl.from_arrow(joint.events)).filter(
        pl.col("event_time") < START - timedelta(days=15)
    )
    assert old["event_type"].unique().to_list() == ["label"]


def test_a_mapping_of_its_own_columns_gives_the_same_log(world: World, tmp_path: Path) -> None:
    planted = simulate(world, customers=600, start=START, end=START + 2 * DAY, seed=4)
    write_events(planted, tmp_path / "events.parquet")
    named = [name for name in EVENT_SCHEMA.names if not name.endswith("_ref_minor")]
    fields: dict[str, object] = {name: name for name in named}
    fields |= {name: {"column": name, "unit": "minor"} for name in ("amount_minor", "fee_minor")}
    mapping = parse_mapping({"fields": fields})
    out = tmp_path / "log.parquet"
    with DeadLetters(tmp_path / "letters.jsonl") as letters:
        report = ingest(tmp_path / "events.parquet", mapping, out, ExchangeRates(), letters)
    assert (report.events, report.dead_letters) == (planted.events.num_rows, 0)
    assert pq.read_table(out).equals(planted.events.combine_chunks())
