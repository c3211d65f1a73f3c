from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from streaming.simulator import World
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
