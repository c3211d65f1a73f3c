"""Promoting a version: the alias moves, the reason stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from mlflow import MlflowClient

from feature_repo.contracts.errors import ModelError
from serving.assignments import assignment_of
from serving.orders import Order
from serving.release import carry_out, promote, shadow, split, way_back
from serving.routing import Bounds

pytestmark = pytest.mark.xdist_group("serving")

AT = datetime(2026, 3, 1, 8, tzinfo=UTC)


@pytest.fixture
def versions(registry: MlflowClient) -> MlflowClient:
    """Model `m` with versions 1 to 3, no alias."""
    registry.create_registered_model("m")
    for _ in range(3):
        registry.create_model_version("m", source="file:///nowhere")
    return registry


def test_the_first_promotion_has_no_former(versions: MlflowClient) -> None:
    release = promote("m", 1, client=versions, who="ana", why="first", at=AT)
    assert (release.version, release.former_version) == ("1", None)
    found = versions.get_model_version_by_alias("m", "champion")
    assert str(found.version) == "1"
    assert found.tags == {
        "promoted_by": "ana",
        "promoted_at": "2026-03-01T08:00:00+00:00",
        "promoted_why": "first",
    }


def test_a_promotion_names_the_former_champion(versions: MlflowClient) -> None:
    promote("m", "1", client=versions)
    release = promote("m", "3", client=versions, who="flow retrain", why="lower rmse")
    assert release.former_version == "1"
    found = versions.get_model_version_by_alias("m", "champion")
    assert str(found.version) == "3"
    assert found.tags["former_champion"] == "1"
    assert found.tags["promoted_why"] == "lower rmse"
    assert versions.get_model_version("m", "1").tags["promoted_by"]


def test_promoting_the_champion_again_changes_nothing(versions: MlflowClient) -> None:
    promote("m", "1", client=versions, who="ana")
    promote("m", "2", client=versions, who="ana")
    release = promote("m", "2", client=versions, who="bob")
    assert release.former_version == "2"
    tags = versions.get_model_version("m", "2").tags
    assert (tags["promoted_by"], tags["former_champion"]) == ("ana", "1")


def test_other_aliases_move_by_themselves(versions: MlflowClient) -> None:
    promote("m", "1", client=versions)
    promote("m", "2", "challenger", client=versions)
    promote("m", "3", "challenger", client=versions)
    assert versions.get_registered_model("m").aliases in (
        {"champion": "1", "challenger": "3"},
        {"champion": 1, "challenger": 3},
    )
    assert versions.get_model_version("m", "3").tags["former_challenger"] == "2"


@pytest.mark.parametrize(
    ("name", "version", "says"),
    [
        ("m", "4", r"version of m is '4': expected one of \['1', '2', '3'\]"),
        ("absent", "1", "expected a registered model; run the retraining flow"),
    ],
)
def test_what_is_not_registered_is_not_promoted(
    versions: MlflowClient, name: str, version: str, says: str
) -> None:
    with pytest.raises(ModelError, match=says):
        promote(name, version, client=versions)
    assert versions.get_registered_model("m").aliases == {}


def test_a_rollback_in_the_registry_notes_itself_and_leads_further_back(
    versions: MlflowClient,
) -> None:
    for version in "123":
        promote("m", version, client=versions)
    assert way_back("m", client=versions) == ("3", "2")
    order = Order("m", "champion", ("3",), "2", "bob", "errors", AT.isoformat())
    release = carry_out(order, client=versions)
    assert release is not None
    assert (release.version, release.former_version, release.at) == ("2", "3", AT)
    assert way_back("m", client=versions) == ("2", "1")
    tags = versions.get_model_version("m", "3").tags
    assert (tags["rolled_back_by"], tags["rolled_back_why"]) == ("bob", "errors")
    assert versions.get_model_version("m", "2").tags["promoted_why"] == "promoted"
    assert carry_out(order, client=versions) is None, "it says so already"


def test_bounds_and_share_stand_in_the_registry_as_they_are_read(versions: MlflowClient) -> None:
    promote("m", "1", client=versions)
    bounds = Bounds(0.02, timedelta(milliseconds=7.5))
    release = split("m", "2", 0.125, bounds, client=versions)
    assert (release.action, release.share, release.former_version) == ("split", 0.125, None)
    (model,) = versions.search_registered_models()
    said = assignment_of(
        model.creation_timestamp, model.aliases, model.tags, ("champion", "challenger")
    )
    assert (said.share(), said.bounds()) == (0.125, bounds)
    assert said.versions == {"champion": "1", "challenger": "2"}


def test_a_challenger_or_shadow_has_no_way_back_but_off(versions: MlflowClient) -> None:
    promote("m", "1", client=versions)
    split("m", "2", 0.5, client=versions)
    shadow("m", "3", client=versions)
    assert not shadow("m", "3", client=versions).changed
    assert way_back("m", "challenger", client=versions) == ("2", None)
    assert way_back("m", client=versions) == ("1", None)
    carry_out(Order("m", "shadow", ("3",), None, "bob", "slow", AT.isoformat()), client=versions)
    assert set(versions.get_registered_model("m").aliases) == {"champion", "challenger"}
