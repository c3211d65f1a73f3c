from __future__ import annotations

from dataclasses import fields

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from streaming.simulator import Simulation, World
from streaming.simulator.people import People, draw_people


@pytest.fixture(scope="module")
def people(world: World) -> People:
    return draw_people(world, 20_000, seed=5)


def test_customers_depend_on_seed_and_number_alone(world: World, people: People) -> None:
    fewer, other = draw_people(world, 500, seed=5), draw_people(world, 500, seed=6)
    for item in fields(People):
        first = getattr(people, item.name)[:500]
        assert np.array_equal(getattr(fewer, item.name), first), item.name
    assert not np.array_equal(other.corridor, fewer.corridor)
    assert people.ids()[:2] == ["c0000000", "c0000001"]


def test_corridor_shares_follow_the_weights(world: World, people: People) -> None:
    weights = np.array([corridor.usd_millions for corridor in world.corridors])
    expected = weights / weights.sum()
    seen = np.bincount(people.corridor, minlength=len(weights)) / len(people)
    # Four standard deviations of a share of 20,000 draws.
    assert np.all(np.abs(seen - expected) < 4 * np.sqrt(expected / len(people)))


def test_a_second_corridor_starts_in_the_same_country(world: World, people: People) -> None:
    sends = np.array([corridor.send for corridor in world.corridors])
    assert np.array_equal(sends[people.corridor], sends[people.second_corridor])
    second = people.second_corridor != people.corridor
    # Customers from countries with one corridor have no second one.
    assert 0.08 < second.mean() <= world.people.second_corridor_share + 0.01


def test_intents_are_probabilities_and_onboarding_ends(world: World, people: People) -> None:
    assert np.allclose(people.intents.sum(axis=1), 1)
    onboard = [intent.name for intent in world.intents].index("onboard")
    assert np.all(people.intents[people.kyc_level == 2, onboard] == 0)
    assert people.intents[people.kyc_level < 2, onboard].mean() > 0.02


def test_most_customers_prefer_the_app(people: People) -> None:
    assert 0.6 < (people.channel == 0).mean() < 0.75
    assert people.recipients.min() >= 1


def test_personas_can_be_told_from_what_customers_do(month: Simulation) -> None:
    """A linear classifier on plain aggregates; learned profiles are to do better."""
    offsets = {country.code: country.utc_offset_hours for country in month.world.countries}
    hour = (
        pl.col("start_time").dt.hour()
        + pl.col("corridor").str.slice(0, 2).replace_strict(offsets, return_dtype=pl.Float64)
    ) * (2 * np.pi / 24)
    events = pl.DataFrame(pl.from_arrow(month.events))
    amounts = events.filter(pl.col("event_type").is_in(["quote", "payment_submitted"]))
    sums = (
        month.truth.sessions.group_by("customer_id", maintain_order=True)
        .agg(
            pl.len().log().alias("visits"),
            hour.sin().mean().alias("sin"),
            hour.cos().mean().alias("cos"),
            (pl.col("start_time").dt.weekday() > 5).mean().alias("weekend"),
            (pl.col("channel") == "web").mean().alias("web"),
            pl.col("duration_s").log1p().mean().alias("length"),
            pl.col("balance_usd").log().median().alias("balance"),
            *(
                (pl.col("intent") == intent.name).mean().alias(intent.name)
                for intent in month.world.intents
            ),
            pl.col("persona").first(),
        )
        .filter(pl.col("visits") > np.log(10))
        .join(
            amounts.group_by("customer_id").agg(amount=pl.col("amount_ref_minor").log().median()),
            on="customer_id",
        )
        .sort("customer_id")
    )
    inputs, persona = sums.drop("customer_id", "persona").to_numpy(), sums["persona"].to_numpy()
    assert len(sums) > 1_500
    even = np.arange(len(sums)) % 2 == 0
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    model.fit(inputs[even], persona[even])
    assert (model.predict(inputs[~even]) == persona[~even]).mean() > 0.93
