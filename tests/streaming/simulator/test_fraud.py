"""Fraud of three kinds: what it looks like, how often it is, and that it can be switched off."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from streaming.simulator import Simulation, World, simulate
from tests.streaming.simulator.conftest import START, with_effects, without_effects

WEEK = {"customers": 5_000, "start": START, "end": START + timedelta(days=10), "seed": 12}
OFTEN = 20.0
SCENARIOS = {
    "account_takeover": "account_takeover",
    "mules": "mule",
    "card_testing": "card_testing",
}


@pytest.fixture(scope="module")
def fraudulent(world: World) -> Simulation:
    """Frauds so often that their shares can be told; for the shape of them only."""
    strengths = dict.fromkeys(SCENARIOS, OFTEN)
    return simulate(with_effects(world, **strengths), **WEEK)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def payments(fraudulent: Simulation) -> pl.DataFrame:
    """Payments submitted, with the fraud they are and the sessions they belong to."""
    events = pl.DataFrame(pl.from_arrow(fraudulent.events))
    return (
        events.filter(pl.col("event_type") == "payment_submitted")
        .join(
            fraudulent.truth.payments.select("event_id", "first_event_id", "fraud"), on="event_id"
        )
        .join(fraudulent.truth.customers.select("customer_id", "amount_usd"), on="customer_id")
        .with_columns(
            abroad=pl.col("ip_country") != pl.col("send_country"),
            ratio=pl.col("amount_ref_minor") / 100 / pl.col("amount_usd"),
        )
    )


def of_kind(payments: pl.DataFrame, fraud: str) -> pl.DataFrame:
    return payments.filter(pl.col("fraud") == fraud)


def test_about_seven_payments_in_a_thousand_are_fraud(month: Simulation) -> None:
    share = (month.truth.payments["fraud"] != "none").mean()
    assert 0.004 < share < 0.011  # type: ignore[operator]
    assert set(month.truth.payments["fraud"]) == {"none", *SCENARIOS.values()}


@pytest.mark.parametrize("effect", SCENARIOS)
def test_each_fraud_can_be_switched_off_and_scaled(
    world: World, fraudulent: Simulation, effect: str
) -> None:
    strengths = dict.fromkeys(SCENARIOS, OFTEN) | {effect: 0.0}
    without = simulate(with_effects(world, **strengths), **WEEK)  # type: ignore[arg-type]
    found = without.truth.payments["fraud"]
    assert set(found) == {"none", *SCENARIOS.values()} - {SCENARIOS[effect]}
    half = simulate(with_effects(world, **strengths | {effect: OFTEN / 2}), **WEEK)  # type: ignore[arg-type]
    many, fewer = (
        (item.truth.sessions["fraud"] == SCENARIOS[effect]).sum() for item in (fraudulent, half)
    )
    assert fewer == pytest.approx(many / 2, rel=0.25)


def test_without_fraud_no_payment_is_labelled_or_reported(world: World) -> None:
    planted = simulate(without_effects(world), **WEEK)  # type: ignore[arg-type]
    events = pl.DataFrame(pl.from_arrow(planted.events))
    assert events.filter(pl.col("event_type") == "fraud_reported").is_empty()
    labels = events.filter(pl.col("page") == "payment", pl.col("event_type") == "label")
    assert labels.height > 1_000
    assert labels["label_value"].unique().to_list() == [0.0]


def test_takeovers_come_from_elsewhere_in_haste_with_larger_amounts(
    fraudulent: Simulation, payments: pl.DataFrame
) -> None:
    taken, honest = of_kind(payments, "account_takeover"), of_kind(payments, "none")
    knobs = fraudulent.world.fraud.takeovers
    assert taken.height > 400
    # Of those abroad, some happen to be at home: there are as many countries as corridors' ends.
    assert 0.8 * knobs.abroad < taken["abroad"].mean() <= knobs.abroad + 0.08  # type: ignore[operator]
    assert honest["abroad"].mean() < 0.1  # type: ignore[operator]
    assert taken["ratio"].median() > 1.3 * honest["ratio"].median()  # type: ignore[operator]
    sessions = fraudulent.truth.sessions.filter(pl.col("intent") == "send")
    pace = sessions.group_by("origin").agg(pl.col("dwell_factor").log().mean())
    of = dict(pace.iter_rows())
    assert of["takeover"] < of["visit"] - 0.2
    # Another device than the customer's visits on that channel.
    own = (
        fraudulent.truth.sessions.filter(pl.col("origin") == "visit")
        .select("customer_id", "channel", "device")
        .unique()
    )
    strangers = fraudulent.truth.sessions.filter(pl.col("origin") == "takeover").join(
        own, on=["customer_id", "channel"], suffix="_own"
    )
    other = (strangers["device"] != strangers["device_own"]).mean()
    assert other == pytest.approx(knobs.other_device, abs=0.1)


def test_mules_are_paid_by_many_within_days_in_one_country(
    fraudulent: Simulation, payments: pl.DataFrame
) -> None:
    mules = (
        of_kind(payments, "mule")
        .group_by("counterparty_id")
        .agg(
            pl.col("customer_id").n_unique().alias("senders"),
            pl.col("receive_country").n_unique().alias("countries"),
            (pl.col("event_time").max() - pl.col("event_time").min()).alias("lasted"),
        )
    )
    assert mules["senders"].median() > 20  # type: ignore[operator]  # at twenty times the strength
    assert mules["countries"].max() == 1
    assert mules["lasted"].max() < timedelta(days=fraudulent.world.fraud.mules.days + 1)  # type: ignore[operator]
    # Nobody pays a mule honestly, and the victims are customers on their own devices.
    honest = of_kind(payments, "none")["counterparty_id"]
    assert not honest.is_in(mules["counterparty_id"].implode()).any()
    origins = fraudulent.truth.sessions.filter(pl.col("fraud") == "mule")["origin"].unique()
    assert origins.to_list() == ["visit"]


def test_card_tests_are_bursts_of_small_payments_many_of_which_fail(
    fraudulent: Simulation, payments: pl.DataFrame
) -> None:
    tests = of_kind(payments, "card_testing")
    bursts = tests.group_by("first_event_id").agg(
        pl.len(), (pl.col("event_time").max() - pl.col("event_time").min()).alias("lasted")
    )
    knobs = fraudulent.world.fraud.card_tests
    assert bursts["len"].min() == knobs.fewest_payments
    expected = knobs.fewest_payments + knobs.further_payments_mean
    assert bursts["len"].mean() == pytest.approx(expected, rel=0.15)
    assert bursts["lasted"].max() < timedelta(minutes=30)  # type: ignore[operator]
    honest = of_kind(payments, "none")
    assert tests["amount_ref_minor"].median() < honest["amount_ref_minor"].median() / 3  # type: ignore[operator]
    sessions = fraudulent.truth.sessions.filter(pl.col("fraud") == "card_testing")
    answers = (
        pl.DataFrame(pl.from_arrow(fraudulent.events))
        .filter(pl.col("event_type").is_in(["payment_failed", "payment_confirmed"]))
        .sort("event_time")
        .join_asof(
            sessions.select(
                "customer_id", "duration_s", event_time="start_time", began="start_time"
            ).sort("event_time"),
            on="event_time",
            by="customer_id",
        )
        .filter(
            (pl.col("event_time") - pl.col("began")).dt.total_microseconds() / 1e6
            <= pl.col("duration_s") + 1e-3
        )
    )
    assert answers.height == pytest.approx(tests.height, abs=10)
    failed = (answers["event_type"] == "payment_failed").mean()
    assert failed == pytest.approx(knobs.failure_chance, abs=0.06)


def test_victims_report_payments_that_went_through(
    fraudulent: Simulation, payments: pl.DataFrame
) -> None:
    events = pl.DataFrame(pl.from_arrow(fraudulent.events))
    reports = events.filter(pl.col("event_type") == "fraud_reported")
    knobs = fraudulent.world.fraud
    confirmed = events.filter(pl.col("event_type") == "payment_confirmed")
    pairs = reports.join(
        confirmed, on=["customer_id", "counterparty_id", "amount_minor"], suffix="_paid"
    ).with_columns(
        days=(pl.col("event_time") - pl.col("event_time_paid")).dt.total_seconds() / 86_400
    )
    pairs = pairs.filter(pl.col("days").is_between(knobs.report_days.least, knobs.report_days.most))
    late = timedelta(days=knobs.report_days.most)
    inside = reports.filter(pl.col("event_time") > START + late)
    assert inside.height > 200
    # Each is about a payment in the window, and that payment is a fraud.
    assert inside.join(pairs, on="event_id", how="anti").is_empty()
    frauds = payments.filter(pl.col("fraud") != "none")
    assert pairs.join(frauds, on=["customer_id", "counterparty_id"], how="anti").is_empty()
