from __future__ import annotations

from datetime import timedelta

import msgspec
import numpy as np
import polars as pl
import pytest

from feature_repo.contracts.events import to_epoch_us
from feature_repo.contracts.money import ExchangeRates
from streaming.simulator import Simulation, World, simulate
from streaming.simulator.payments import tariff_on
from tests.streaming.simulator.conftest import START, inside

DAY = to_epoch_us(START) // 86_400_000_000


@pytest.fixture(scope="module")
def money(simulation: Simulation) -> pl.DataFrame:
    """Events of sessions that have money."""
    events = inside(pl.DataFrame(pl.from_arrow(simulation.events)))
    return events.filter(pl.col("amount_minor").is_not_null())


def test_fee_and_margin_are_the_corridors_cost_at_both_of_the_world_banks_points(
    world: World,
) -> None:
    tariff = tariff_on(world, ExchangeRates(), DAY)
    for code, corridor in enumerate(world.corridors):
        for usd, cost_pct, margin_pct in (
            (200, corridor.cost_pct_usd200, corridor.fx_margin_pct_usd200),
            (500, corridor.cost_pct_usd500, corridor.fx_margin_pct_usd500),
        ):
            amount_minor = np.rint([usd * 100 / tariff.cents[code]]).astype(np.int64)
            fee = tariff.fee(amount_minor, np.array([code]))[0] * tariff.cents[code] / 100
            assert fee + usd * margin_pct / 100 == pytest.approx(usd * cost_pct / 100, abs=0.02)


def test_fees_on_events_match_the_corridors_cost(world: World, money: pl.DataFrame) -> None:
    costs = pl.DataFrame(
        {
            "send_country": [c.send for c in world.corridors],
            "receive_country": [c.receive for c in world.corridors],
            "fixed": [c.fee_fixed_usd for c in world.corridors],
            "rate": [c.fee_rate for c in world.corridors],
        }
    )
    joined = money.join(costs, on=["send_country", "receive_country"])
    assert joined.height == money.height
    expected = joined["fixed"] * 100 + joined["rate"] * joined["amount_ref_minor"]
    # Rounded twice: to the send currency's minor unit, then to cents.
    assert (joined["fee_ref_minor"] - expected).abs().max() <= 1.2  # type: ignore[operator]


def test_amounts_are_round_in_the_send_currency_and_null_elsewhere(
    simulation: Simulation, world: World, money: pl.DataFrame
) -> None:
    kinds = {"quote", "payment_submitted", "payment_confirmed", "payment_failed"}
    assert set(money["event_type"].unique()) == kinds
    everything = pl.DataFrame(pl.from_arrow(simulation.events))
    assert everything.filter(pl.col("event_type").is_in(kinds)).height == money.height
    currency = {country.code: country.currency for country in world.countries}
    assert (money["send_country"].replace_strict(currency) == money["currency"]).all()
    major = money["currency"].replace_strict({"KWD": 1000}, default=100)
    assert (money["amount_minor"] % (major * world.payments.round_to_major) == 0).all()
    assert (money["amount_minor"] > 0).all()
    for name in ("amount_ref_minor", "fee_ref_minor"):
        assert money[name].null_count() == 0


def test_a_payments_events_agree_and_follow_each_other(money: pl.DataFrame) -> None:
    ordered = money.sort("customer_id", "event_time", maintain_order=True)
    following = ordered.with_columns(
        pl.col("event_type", "amount_minor", "counterparty_id")
        .shift(-1)
        .over("customer_id")
        .name.prefix("next_")
    )
    submitted = following.filter(pl.col("event_type") == "payment_submitted").drop_nulls(
        "next_event_type"
    )
    assert submitted.height > 1_000
    settled = submitted["next_event_type"].is_in(["payment_confirmed", "payment_failed"])
    assert settled.mean() > 0.99  # type: ignore[operator]  # some are left before the answer
    pairs = submitted.filter(settled)
    assert (pairs["amount_minor"] == pairs["next_amount_minor"]).all()
    assert (pairs["counterparty_id"] == pairs["next_counterparty_id"]).all()


def test_recipients_come_back_and_some_are_shared(simulation: Simulation) -> None:
    events = pl.DataFrame(pl.from_arrow(simulation.events))
    paid = events.filter(pl.col("event_type") == "payment_submitted")
    assert paid["counterparty_id"].null_count() == 0
    assert events.filter(pl.col("event_type") == "page_view")["counterparty_id"].is_null().all()
    payers = paid.group_by("counterparty_id").agg(pl.col("customer_id").n_unique(), pl.len())
    shared = payers.filter(pl.col("customer_id") > 1)
    assert 0.01 < shared["len"].sum() / paid.height < 0.15
    assert payers["len"].max() > 1  # type: ignore[operator]
    # A recipient lives in one country.
    countries = paid.group_by("counterparty_id").agg(pl.col("receive_country").n_unique())
    assert countries["receive_country"].max() == 1


def test_the_failure_knobs_work(world: World) -> None:
    def failing_share(chance: float, over_balance: float) -> float:
        knobs = msgspec.structs.replace(
            world.payments,
            failure_chance=chance,
            failure_chance_over_balance=over_balance,
            retry_chance=0.0,
        )
        events = simulate(
            msgspec.structs.replace(world, payments=knobs),
            customers=2_000,
            start=START,
            end=START + timedelta(days=2),
            seed=4,
        ).events
        kinds: list[str] = events["event_type"].to_pylist()
        return kinds.count("payment_failed") / kinds.count("payment_submitted")

    assert failing_share(0.0, 0.0) == 0
    assert failing_share(0.3, 0.0) == pytest.approx(0.3, abs=0.05)
    # The window's edges cut a few payments from their answers.
    assert failing_share(1.0, 0.0) == pytest.approx(1, abs=0.01)
    assert 0 < failing_share(0.0, 1.0) < 0.5


def test_payments_above_the_balance_fail_more_often(simulation: Simulation) -> None:
    events = pl.DataFrame(pl.from_arrow(simulation.events)).filter(
        pl.col("event_time") < START + timedelta(days=1)
    )
    balances = simulation.batch_features(START.date())["customer_financials"]
    tried = events.filter(pl.col("event_type").is_in(["payment_confirmed", "payment_failed"])).join(
        balances, on="customer_id"
    )
    over = tried["amount_ref_minor"] > tried["balance_ref_minor"]
    failed = tried["event_type"] == "payment_failed"
    share_over, share_under = failed.filter(over).mean(), failed.filter(~over).mean()
    assert share_over > 3 * share_under  # type: ignore[operator]
