"""GET /v1/profile/{customer}: all that is known of somebody, and of nobody."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from serving.messages import Decision
from serving.profile import RecentPredictions
from tests.serving.conftest import NOW, SERVICE, Happen, Write, click
from tests.serving.test_bad_input import problem

pytestmark = [pytest.mark.xdist_group("serving"), pytest.mark.usefixtures("valkey")]

Api = TestClient[Litestar]


def test_a_profile_has_the_features_and_the_last_predictions(
    api: Api, write: Write, happen: Happen
) -> None:
    write("customer_profile", "c1", {"tenure_days": 7, "home_country": "GB"})
    happen([click("c1", "GB-NG", timedelta(minutes=1))])
    predicted = api.post(f"/v1/predict/{SERVICE}", json={"customers": ["c1"]}).json()
    answer = api.get("/v1/profile/c1")
    assert answer.status_code == 200
    found = answer.json()
    assert found["customer"] == "c1"
    assert found["request_id"] == answer.headers["x-request-id"]
    assert found["features"]["customer_profile:tenure_days"] == 7
    assert found["features"]["customer_session:session_event_count"] == 1
    assert found["statuses"]["customer_profile:home_country"] == "PRESENT"
    assert found["statuses"]["customer_financials:transfers_30d"] == "NOT_FOUND"
    assert not any(ref.startswith("corridor_") for ref in found["features"])
    assert found["ages_s"]["customer_session"] == 60
    assert (found["segment"], found["embedding"]) == (None, None)
    (last,) = found["predictions"]
    assert last["model"] == SERVICE
    assert last["version"] == predicted["version"]
    assert last["request_id"] == predicted["request_id"]
    assert last["prediction"] == predicted["predictions"][0]["prediction"]
    assert last["corridor"] == "GB-NG"
    assert last["decision"] is None


def test_nobody_has_a_profile_too(api: Api) -> None:
    found = api.get("/v1/profile/nobody-at-all").json()
    assert set(found["statuses"].values()) == {"NOT_FOUND"}
    assert (found["segment"], found["embedding"], found["predictions"]) == (None, None, [])


def test_an_id_that_is_none_is_told_so(api: Api) -> None:
    assert "256 characters" in problem(api.get("/v1/profile/" + "c" * 257), 400)["detail"]
    assert "UTF-8" in problem(api.get("/v1/profile/%ff%00"), 400)["detail"]
    assert api.get("/v1/profile/%00").json()["customer"] == "\0"
    problem(api.get("/v1/profile/"), 404)


@pytest.mark.parametrize(
    ("path", "customer"),
    [
        ("uk/42", "uk/42"),
        ("uk%2F42", "uk/42"),
        ("uk/42/", "uk/42/"),
        ("uk//42", "uk//42"),
        ("%2Fuk", "/uk"),
        ("a%252Fb?x=1", "a%2Fb"),
        ("a+b%20c", "a+b c"),
        ("%C3%A9", "é"),
        ("a%2F..%2Fb", "a/../b"),
    ],
)
def test_any_id_has_its_own_profile(api: Api, write: Write, path: str, customer: str) -> None:
    write("customer_profile", customer, {"tenure_days": 9})
    found = api.get(f"/v1/profile/{path}").json()
    assert found["customer"] == customer
    assert found["features"]["customer_profile:tenure_days"] == 9


def batch(customers: list[str], *, alias: str = "champion", number: int = 0) -> Any:
    count = len(customers)
    return SimpleNamespace(
        request_id=f"r{number}",
        at=NOW,
        model=SERVICE,
        served=SimpleNamespace(version="3", alias=alias, unit="s"),
        customers=customers,
        corridors=["GB-NG"] * count,
        scores=[1.0] * count,
        predictions=[float(number)] * count,
        probabilities=[0.5] * count,
        decisions=[Decision("review", ("probability >= 0.5",))] * count,
    )


def test_the_last_few_predictions_of_the_last_few_customers_are_remembered() -> None:
    recent = RecentPredictions(2)
    for number in range(7):
        recent(batch(["c1"], number=number))
    assert [one.prediction for one in recent.of("c1")] == [6, 5, 4, 3, 2]
    assert recent.of("c1")[0].decision == Decision("review", ("probability >= 0.5",))
    recent(batch(["c2"]))
    recent(batch(["c1"], number=8))  # seen again: it is c2 that makes room
    recent(batch(["c3"]))
    assert recent.of("c2") == []
    assert [len(recent.of(name)) for name in ("c1", "c3")] == [5, 1]


def test_a_shadow_leaves_no_trace() -> None:
    recent = RecentPredictions(2)
    recent(batch(["c1"], alias="shadow"))
    assert recent.of("c1") == []
