"""Reading features over HTTP: the same values, statuses and ages that a model gets."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from serving.catalog import Catalog
from tests.serving.conftest import SERVICE, Write

pytestmark = [pytest.mark.xdist_group("serving"), pytest.mark.usefixtures("valkey")]

Api = TestClient[Litestar]


def features(api: Api, body: object) -> Any:
    answer = api.post("/v1/features", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["rows"]


def test_values_of_references(api: Api, write: Write) -> None:
    session = {
        "session_start_us": 1_772_452_680_123_456,
        "session_pay_rate": 1.25,
        "session_corridor": "GB-NG",
        "session_channel": None,
    }
    write("customer_session", "größe 🙂", session, timedelta(minutes=2))
    write("customer_financials", "größe 🙂", {"balance_ref_minor": -(2**63)}, timedelta(days=31))
    refs = [f"customer_session:{name}" for name in session]
    refs += ["customer_session:session_device", "customer_financials:balance_ref_minor"]
    (row,) = features(api, {"features": refs, "customer": "größe 🙂"})
    assert (
        row
        == {
            "customer": "größe 🙂",
            "corridor": None,  # no corridor feature was asked for
            "values": {f"customer_session:{name}": value for name, value in session.items()}
            | {
                "customer_session:session_device": None,
                "customer_financials:balance_ref_minor": None,
            },
            "statuses": dict.fromkeys(refs[:3], "PRESENT")
            | {
                "customer_session:session_channel": "NULL_VALUE",
                "customer_session:session_device": "NOT_FOUND",
                "customer_financials:balance_ref_minor": "OUTSIDE_MAX_AGE",
            },
            "ages_s": {"customer_session": 120.0, "customer_financials": 31 * 86400.0},
        }
    )


def test_values_of_a_feature_service(api: Api, catalog: Catalog) -> None:
    rows = features(api, {"feature_service": SERVICE, "customers": ["c1", "c2"]})
    assert [row["customer"] for row in rows] == ["c1", "c2"]
    for row in rows:
        assert list(row["values"]) == list(catalog.services[SERVICE])
        assert set(row["statuses"].values()) == {"NOT_FOUND"}


def test_corridor_features_alone(api: Api, write: Write) -> None:
    write("corridor_costs", "GB-NG", {"providers": 12}, timedelta(days=1))
    write("customer_session", "c1", {"session_corridor": "GB-NG"})
    body = {"features": ["corridor_costs:providers"], "customers": ["c1", "c2"]}
    found, unknown = features(api, body)
    assert found["values"] == {"corridor_costs:providers": 12}
    assert found["ages_s"] == {"corridor_costs": 86400.0}
    assert found["corridor"] == "GB-NG"
    assert unknown["statuses"] == {"corridor_costs:providers": "NOT_FOUND"}
    assert unknown["corridor"] is None
    found, same = features(api, body | {"corridor": "GB-NG"})
    assert found["values"] == same["values"] == {"corridor_costs:providers": 12}


def test_a_reference_asked_for_twice_is_answered_once(api: Api, write: Write) -> None:
    write("customer_profile", "c1", {"kyc_level": 2, "tenure_days": 3})
    refs = ["customer_profile:kyc_level", "customer_profile:kyc_level"]
    (row,) = features(api, {"features": refs, "customer": "c1"})
    assert row["values"] == {"customer_profile:kyc_level": 2}
