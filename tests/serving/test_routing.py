"""Who answers whom: sticky shares, independent models, one line a request."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from serving.models import ServedModel
from serving.routing import (
    CHALLENGER,
    SHADOW,
    Challenger,
    Line,
    Refusal,
    Slot,
    UnknownModelError,
    takes_part,
)

CUSTOMERS = [f"c{number:06d}" for number in range(50_000)]


class Version:
    """As much of a served model as routing looks at."""

    def __init__(self, name: str, version: str, alias: str = "champion") -> None:
        self.name, self.version, self.alias = name, version, alias


def version(*fields: str) -> ServedModel:
    stand_in: Any = Version(*fields)
    return cast("ServedModel", stand_in)


def line(share: float) -> Line:
    return Line(
        models={"m": version("m", "1")},
        challengers={"m": Challenger(version("m", "2", CHALLENGER), share)},
        shadows={"m": version("m", "3", SHADOW)},
    )


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_a_share_is_the_share_of_the_customers(share: float) -> None:
    asked = line(share)
    taken = sum(asked.route("m", customer).version == "2" for customer in CUSTOMERS)
    # Five standard deviations of so many draws.
    assert abs(taken / len(CUSTOMERS) - share) < 5 * (share * (1 - share) / len(CUSTOMERS)) ** 0.5


def test_a_customer_stays_and_a_greater_share_keeps_those_of_a_smaller() -> None:
    few, more = ({c for c in CUSTOMERS if takes_part("m", c, s)} for s in (0.1, 0.3))
    assert few < more
    assert few == {c for c in CUSTOMERS if line(0.1).route("m", c).version == "2"}


def test_two_models_challengers_get_different_customers() -> None:
    of_m, of_n = ({c for c in CUSTOMERS if takes_part(name, c, 0.1)} for name in "mn")
    # By chance a tenth of a tenth are the same.
    assert abs(len(of_m & of_n) / len(CUSTOMERS) - 0.01) < 0.003


def test_the_edges_of_a_share() -> None:
    assert {line(0.0).route("m", c).version for c in CUSTOMERS[:1000]} == {"1"}
    assert {line(1.0).route("m", c).version for c in CUSTOMERS[:1000]} == {"2"}


def test_a_requests_customers_are_split_as_each_is_routed() -> None:
    asked = line(0.3)
    parts = asked.split("m", CUSTOMERS[:200])
    assert sorted(place for _, places in parts for place in places) == list(range(200))
    for model, places in parts:
        assert {asked.route("m", CUSTOMERS[place]) for place in places} == {model}
    assert [model.version for model, _ in parts] == ["1", "2"]
    alone = Line(models={"m": version("m", "1")})
    assert alone.split("m", ["a", "b"]) == [(alone.models["m"], [0, 1])]
    assert [model.version for model, _ in line(1.0).split("m", ["a"])] == ["2"]


def test_shares_as_shown_and_a_shadow_that_answers_nobody() -> None:
    asked = line(0.25)
    assert {model.alias: asked.share_of(model) for model in asked.served()} == {
        "champion": 0.75,
        "challenger": 0.25,
        "shadow": 0.0,
    }
    assert "3" not in {asked.route("m", c).version for c in CUSTOMERS[:1000]}


def test_taking_off_a_version_leaves_every_other() -> None:
    asked = line(0.25)
    slot = Slot("m", CHALLENGER)
    assert asked.without(slot, "1") is asked
    assert asked.without(Slot("m", "champion"), "1") is asked
    less = asked.without(slot, "2")
    assert (less.challengers, less.models, less.shadows) == ({}, asked.models, asked.shadows)
    assert asked.without(Slot("m", SHADOW), "3").shadows == {}


def test_a_model_that_does_not_serve_says_why() -> None:
    with pytest.raises(UnknownModelError, match=r"one of \['m'\]; register one and promote it"):
        line(0.1).route("n", "c1")
    refused = {Slot("n", "champion"): Refusal("7", "too wide", datetime.now(UTC))}
    with pytest.raises(UnknownModelError, match="version 7 was refused: too wide"):
        Line(refused=refused).get("n")
    with pytest.raises(UnknownModelError, match="does not answer: no route"):
        Line(registry_error="no route").get("n")
