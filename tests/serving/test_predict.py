"""Predictions over HTTP: the join, statuses and ages, the model's scale, the unknown customer."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import lightgbm
import numpy as np
import pytest
from litestar.testing import TestClient

from feature_repo.contracts.events import EventType
from serving.catalog import Catalog
from serving.edge import Edge
from tests.serving.conftest import NOW, SERVICE, Happen, Write, click, event, with_categories

pytestmark = [pytest.mark.xdist_group("serving"), pytest.mark.usefixtures("valkey")]

Api = TestClient[Edge]


def predict(api: Api, body: object, model: str = SERVICE) -> Any:
    answer = api.post(f"/v1/predict/{model}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
def known(write: Write, happen: Happen) -> None:
    """c1, in a session; every view present."""
    happen(
        [
            event("c1", timedelta(hours=3), channel="web"),
            event("c1", timedelta(hours=3) - timedelta(seconds=61.5), channel="web"),
            event("c1", timedelta(minutes=2), EventType.LOGIN, channel="app", send_country="GB",
                  receive_country="NG"),
        ]
    )  # fmt: skip
    profile = {"tenure_days": 400, "age_band": "25-34", "kyc_level": 2, "main_corridor": "GB-IN"}
    write("customer_profile", "c1", profile, timedelta(days=1))
    write("customer_financials", "c1", {"balance_ref_minor": -1}, timedelta(days=1))
    write("corridor_costs", "GB-NG", {"cost_pct_usd200": 3.25, "providers": 12}, timedelta(days=30))
    write("corridor_costs", "GB-IN", {"cost_pct_usd200": 2.5, "providers": 20}, timedelta(days=30))


@pytest.mark.usefixtures("known")
def test_a_prediction_is_the_models_on_the_joined_features(
    api: Api, catalog: Catalog, booster: Any
) -> None:
    answer = predict(api, {"customers": ["c1"]})
    inputs = with_categories(catalog.service_inputs(SERVICE))
    by_hand = {
        item.ref: 0  # of payments there are none; what is no count or sum is missing
        for item in inputs.inputs
        if item.view == "customer_activity" and ("_count" in item.ref or "_sum" in item.ref)
    } | {
        "customer_session:session_start_hour": 11,
        "customer_session:session_start_weekday": 0,
        "customer_session:session_corridor_last": 1,  # place among the categories
        "customer_session:session_channel_last": 2,
        "customer_session:previous_session_duration_s": 61.5,
        "customer_session:previous_session_event_count": 2,
        "customer_session:previous_session_seconds_since_event": 10_738.5,
        "customer_activity:event_count_5m": 1,
        "customer_activity:event_count_1h": 1,
        "customer_activity:event_count_24h": 3,
        "customer_activity:event_count_7d": 3,
        "customer_activity:page_view_count_24h": 2,
        "customer_activity:page_view_count_7d": 2,
        "customer_activity:lifetime_event_count": 3,
        "customer_profile:tenure_days": 400,
        "customer_profile:age_band": 0,
        "customer_profile:kyc_level": 2,
        "customer_financials:balance_ref_minor": -1,
        "corridor_costs:cost_pct_usd200": 3.25,
        "corridor_costs:providers": 12,
    }
    vector = np.array([[by_hand.get(item.ref, math.nan) for item in inputs.inputs]])
    model = lightgbm.Booster(model_str=booster(inputs, 1))
    (score,) = model.predict(vector)
    (row,) = answer["predictions"]
    assert row["score"] == pytest.approx(score, rel=1e-12)
    assert row["prediction"] == pytest.approx(math.expm1(score), rel=1e-12)
    assert (row["customer"], row["unit"], row["corridor"]) == ("c1", "s", "GB-NG")
    assert (answer["model"], answer["version"], answer["alias"]) == (SERVICE, "1", "champion")
    assert answer["as_of"] == "2026-03-02T12:00:00Z"

    assert list(row["statuses"]) == [item.ref for item in inputs.inputs]
    assert row["statuses"]["customer_session:session_start_hour"] == "PRESENT"
    assert row["statuses"]["customer_session:session_device_last"] == "NULL_VALUE"
    assert row["statuses"]["customer_profile:recipient_count"] == "NOT_FOUND"
    assert row["ages_s"] == {
        "customer_session": 120.0,
        "customer_activity": 120.0,
        "customer_profile": 86400.0,
        "customer_financials": 86400.0,
        "corridor_costs": 30 * 86400.0,
    }


def test_an_unknown_customer_is_not_an_error(api: Api) -> None:
    (row,) = predict(api, {"customer": "nobody"})["predictions"]
    assert math.isfinite(row["prediction"])
    assert set(row["statuses"].values()) == {"NOT_FOUND"}
    assert row["ages_s"] == {}
    assert row["corridor"] is None


def test_an_ended_session_counts_as_none(api: Api, happen: Happen) -> None:
    gap = timedelta(minutes=30)
    happen([click("c2", "GB-NG", ago=gap), click("c3", "GB-NG", ago=gap + timedelta.resolution)])
    open_, ended = predict(api, {"customers": ["c2", "c3"]})["predictions"]
    hour = "customer_session:session_start_hour"
    assert (open_["statuses"][hour], open_["corridor"]) == ("PRESENT", "GB-NG")
    # An ended session's corridor is no longer the customer's.
    assert (ended["statuses"][hour], ended["corridor"]) == ("NULL_VALUE", None)
    assert ended["ages_s"]["customer_session"] == 1800.000001


def test_expired_values_count_as_missing(api: Api, write: Write) -> None:
    month = timedelta(days=30)
    write("customer_profile", "c2", {"tenure_days": 40}, month)
    write("customer_profile", "c3", {"tenure_days": 40}, month + timedelta.resolution)
    fresh, expired, absent = predict(api, {"customers": ["c2", "c3", "c4"]})["predictions"]
    assert fresh["statuses"]["customer_profile:tenure_days"] == "PRESENT"
    assert expired["statuses"]["customer_profile:tenure_days"] == "OUTSIDE_MAX_AGE"
    assert expired["ages_s"]["customer_profile"] == 2_592_000.000001
    assert expired["score"] == absent["score"]


@pytest.mark.usefixtures("known")
def test_as_of_moves_features_ages_and_expiry(api: Api) -> None:
    later = NOW + timedelta(days=3)
    (row,) = predict(api, {"customer": "c1", "as_of": later.isoformat()})["predictions"]
    assert row["ages_s"]["customer_session"] == 3 * 86400 + 120
    assert row["statuses"]["customer_session:session_start_hour"] == "NULL_VALUE"
    assert row["statuses"]["customer_activity:event_count_5m"] == "PRESENT"
    # The session has ended and its corridor with it; the profile's is not taken instead.
    assert row["corridor"] is None
    assert row["statuses"]["corridor_costs:providers"] == "NOT_FOUND"
    earlier = (NOW - timedelta(days=5)).astimezone()
    (row,) = predict(api, {"customer": "c1", "as_of": earlier.isoformat()})["predictions"]
    assert row["ages_s"]["customer_session"] == 120 - 5 * 86400


@pytest.mark.usefixtures("known")
def test_the_requests_corridor_comes_first(api: Api, write: Write) -> None:
    write("corridor_costs", "US-MX", {"cost_pct_usd200": 9.0, "providers": 1}, timedelta(days=30))
    rows = predict(api, {"customers": ["c1", "nobody"], "corridor": "US-MX"})["predictions"]
    for row in rows:
        assert row["corridor"] == "US-MX"
        assert row["statuses"]["corridor_costs:providers"] == "PRESENT"
    named, own = rows[0], predict(api, {"customers": ["c1"]})["predictions"][0]
    assert named["score"] != own["score"]


@pytest.mark.usefixtures("known")
def test_many_customers_keep_their_order_and_their_own_values(api: Api, write: Write) -> None:
    for number in range(300):
        write("customer_profile", f"m{number}", {"tenure_days": number * 10})
    customers = [f"m{number}" for number in reversed(range(300))] + ["c1", "c1"]
    rows = predict(api, {"customers": customers})["predictions"]
    assert [row["customer"] for row in rows] == customers
    singly = predict(api, {"customer": "m7"})["predictions"][0]
    assert rows[292] == singly
    assert rows[-1] == rows[-2]
    assert len({row["score"] for row in rows}) > 5


@pytest.mark.usefixtures("known")
def test_an_explanation_names_what_weighed_most(api: Api, catalog: Catalog, booster: Any) -> None:
    answer = predict(api, {"customers": ["c1", "nobody"], "explain": 3})
    inputs = with_categories(catalog.service_inputs(SERVICE))
    names = {item.ref for item in inputs.inputs}
    for row in answer["predictions"]:
        parts = [part["contribution"] for part in row["explanation"]]
        assert len(parts) == 3
        assert parts == sorted(parts, key=abs, reverse=True)
        assert {part["name"] for part in row["explanation"]} <= names
    tenure = next(
        part
        for part in answer["predictions"][0]["explanation"]
        if part["name"] == "customer_profile:tenure_days"
    )
    assert tenure["value"] == 400
    assert predict(api, {"customer": "c1"})["predictions"][0]["explanation"] is None
    everything = predict(api, {"customer": "c1", "explain": 20})["predictions"][0]["explanation"]
    assert len(everything) == 20


@pytest.mark.usefixtures("known")
def test_the_corridor_may_stand_in_the_context(api: Api) -> None:
    (top,) = predict(api, {"customer": "c1", "corridor": "GB-IN"})["predictions"]
    (inside,) = predict(api, {"customer": "c1", "context": {"corridor": "GB-IN"}})["predictions"]
    assert inside == top
    assert inside["corridor"] == "GB-IN"
