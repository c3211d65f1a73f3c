from __future__ import annotations

from datetime import date, datetime, timedelta

import polars as pl
import pytest

from feature_repo.contracts.definition import Dtype
from streaming.simulator import Simulation
from tests.streaming.simulator.conftest import CUSTOMERS, START


@pytest.fixture(scope="module")
def days(simulation: Simulation) -> dict[date, dict[str, pl.DataFrame]]:
    return {day: simulation.batch_features(day) for day in simulation.batch_days()}


def test_one_snapshot_a_day_at_midnight(days: dict[date, dict[str, pl.DataFrame]]) -> None:
    assert list(days) == [START.date() + timedelta(days=n) for n in range(3)]
    for day, views in days.items():
        for frame in views.values():
            assert frame.schema["event_timestamp"] == pl.Datetime("us", "UTC")
            instant = frame["event_timestamp"].unique().item()
            assert instant == datetime(day.year, day.month, day.day, tzinfo=START.tzinfo)
            assert frame.null_count().sum_horizontal().item() == 0


def test_columns_are_the_feature_views(days: dict[date, dict[str, pl.DataFrame]]) -> None:
    definitions = pytest.importorskip("feature_repo.definitions")
    dtypes = {Dtype.INT64: pl.Int64, Dtype.FLOAT64: pl.Float64, Dtype.STRING: pl.String}
    for view, frame in days[START.date()].items():
        declared = getattr(definitions, view)
        columns = {field.name: dtypes[Dtype(str(field.dtype))] for field in declared.schema}
        key = declared.entities[0]
        columns["corridor" if key == "corridor" else "customer_id"] = pl.String
        columns["event_timestamp"] = pl.Datetime("us", "UTC")  # type: ignore[assignment]
        assert dict(frame.schema) == columns


def test_one_row_a_customer_and_one_a_corridor(
    simulation: Simulation, days: dict[date, dict[str, pl.DataFrame]]
) -> None:
    for views in days.values():
        assert views["customer_profile"]["customer_id"].n_unique() == CUSTOMERS
        assert views["customer_financials"].height == CUSTOMERS
        costs = views["corridor_costs"]
        assert costs["corridor"].to_list() == [c.name for c in simulation.world.corridors]
        gb_ng = costs.filter(pl.col("corridor") == "GB-NG").row(0, named=True)
        assert gb_ng["cost_pct_usd200"] == 3.14
        assert gb_ng["providers"] == 19


def test_a_snapshot_knows_the_day_before_and_not_the_day_after(
    simulation: Simulation, days: dict[date, dict[str, pl.DataFrame]]
) -> None:
    events = pl.DataFrame(pl.from_arrow(simulation.events))
    first, second = (days[START.date() + timedelta(days=n)]["customer_financials"] for n in (0, 1))
    # A day leaves the 30-day window as the simulated one enters: compare its payments alone.
    confirmed = (
        events.filter(
            (pl.col("event_type") == "payment_confirmed")
            & (pl.col("event_time") < START + timedelta(days=1))
        )
        .group_by("customer_id")
        .agg(sent=pl.col("amount_ref_minor").sum(), transfers=pl.len())
    )
    joined = confirmed.join(second, on="customer_id")
    assert joined.height == confirmed.height > 100
    assert (joined["transfers_30d"] >= joined["transfers"]).all()
    assert (joined["sent_30d_ref_minor"] >= joined["sent"]).all()
    # Before the window there are only habits, whatever happens in it.
    assert first["transfers_30d"].sum() > 0


def test_added_recipients_count_from_the_next_day_on(
    simulation: Simulation, days: dict[date, dict[str, pl.DataFrame]]
) -> None:
    events = pl.DataFrame(pl.from_arrow(simulation.events))
    for n in range(3):
        profile = days[START.date() + timedelta(days=n)]["customer_profile"]
        added = events.filter(
            (pl.col("event_type") == "add_recipient")
            & (pl.col("event_time") < START + timedelta(days=n))
        ).height
        assert profile["recipient_count"].sum() == simulation.people.recipients.sum() + added


def test_tenure_grows_by_the_day(days: dict[date, dict[str, pl.DataFrame]]) -> None:
    first, second = (
        days[START.date() + timedelta(days=n)]["customer_profile"]["tenure_days"] for n in (0, 1)
    )
    assert (second - first == 1).all()
    assert first.min() >= 1  # type: ignore[operator]
