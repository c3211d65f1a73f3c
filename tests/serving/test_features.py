"""Reading features over HTTP: the same values, statuses and ages that a model gets."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from feature_repo.contracts.events import EventType
from serving.catalog import Catalog
from tests.serving.conftest import NOW, SERVICE, Happen, Write, click, event

pytestmark = [pytest.mark.xdist_group("serving"), pytest.mark.usefixtures("valkey")]

Api = TestClient[Litestar]


def features(api: Api, body: object) -> Any:
    answer = api.post("/v1/features", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["rows"]


def test_values_of_references(api: Api, write: Write, happen: Happen) -> None:
    who = "größe 🙂"
    quote = {"amount_minor": 20_000, "fee_minor": 100, "currency": "USD"}
    corridor = {"send_country": "GB", "receive_country": "NG"}
    happen(
        [
            event(who, timedelta(seconds=200, microseconds=1)),
            event(who, timedelta(minutes=2), EventType.QUOTE, **quote, **corridor),
        ]
    )
    write("customer_financials", who, {"balance_ref_minor": -(2**63)}, timedelta(days=31))
    session = {
        "session_start_us": 1_772_452_599_999_999,
        "session_pay_rate": 20_100 / 80.000001,
        "session_corridor_last": "GB-NG",
        "session_channel_last": None,
    }
    refs = [f"customer_session:{name}" for name in session]
    refs += ["customer_financials:balance_ref_minor", "customer_activity:event_count_5m"]
    (row,) = features(api, {"features": refs, "customer": who})
    assert list(row["values"]) == refs
    assert row == {
        "customer": who,
        "corridor": None,  # no corridor feature was asked for
        "values": {f"customer_session:{name}": value for name, value in session.items()}
        | {
            "customer_financials:balance_ref_minor": None,
            "customer_activity:event_count_5m": 2,
        },
        "statuses": dict.fromkeys(refs, "PRESENT")
        | {
            "customer_session:session_channel_last": "NULL_VALUE",
            "customer_financials:balance_ref_minor": "OUTSIDE_MAX_AGE",
        },
        "ages_s": {
            "customer_session": 120.0,
            "customer_activity": 120.0,
            "customer_financials": 31 * 86400.0,
        },
    }


def test_stream_features_are_those_of_the_instant(api: Api, happen: Happen) -> None:
    happen([click("c1", "GB-NG", ago=timedelta(minutes=minutes)) for minutes in (0, 10)])
    names = (
        "customer_session:session_event_count",
        "customer_activity:event_count_5m",
        "customer_activity:event_count_1h",
        "customer_session:session_corridor_last",
    )
    for minutes, values in (
        (0, (2, 1, 2, "GB-NG")),
        (30, (2, 0, 2, "GB-NG")),
        (31, (0, 0, 2, None)),
        (60, (0, 0, 0, None)),
    ):
        as_of = (NOW + timedelta(minutes=minutes)).isoformat()
        (row,) = features(api, {"features": list(names), "customer": "c1", "as_of": as_of})
        assert tuple(row["values"].values()) == values, minutes
        assert row["statuses"][names[0]] == "PRESENT"


def test_a_customer_without_events_has_counts_of_nothing(api: Api) -> None:
    refs = ["customer_activity:event_count_7d", "customer_session:session_corridor_last"]
    (row,) = features(api, {"features": refs, "customer": "nobody"})
    assert row["values"] == {refs[0]: 0, refs[1]: None}
    assert row["statuses"] == dict.fromkeys(refs, "NOT_FOUND")
    assert row["ages_s"] == {}


def test_features_of_corridor_and_counterparty(api: Api, happen: Happen) -> None:
    money = {"amount_minor": 5_000, "fee_minor": 100, "currency": "USD"}
    corridor = {"send_country": "GB", "receive_country": "NG"}
    happen(
        [
            event(who, timedelta(minutes=2), EventType.PAYMENT_SUBMITTED, counterparty_id="shop",
                  **money, **corridor)
            for who in ("c1", "c2")
        ]
    )  # fmt: skip
    paid = "corridor_activity:corridor_payment_submitted_count_1h"
    payers = "counterparty_activity:counterparty_payment_submitted_customer_id_distinct_count_24h"
    body = {"features": [payers, paid], "customers": ["c1", "nobody"]}
    own, nobody = features(api, body | {"counterparty": "shop"})
    assert own["values"] == {payers: 2, paid: 2}
    assert own["corridor"] == "GB-NG"
    assert own["ages_s"] == {"corridor_activity": 120.0, "counterparty_activity": 120.0}
    assert nobody["values"] == {payers: 2, paid: None}
    assert nobody["statuses"] == {payers: "PRESENT", paid: "NOT_FOUND"}
    unnamed, _ = features(api, body | {"corridor": "GB-IN"})
    assert unnamed["values"] == {payers: None, paid: 0}, "a corridor without payments, no payee"
    assert set(unnamed["statuses"].values()) == {"NOT_FOUND"}


def test_values_of_a_feature_service(api: Api, catalog: Catalog) -> None:
    rows = features(api, {"feature_service": SERVICE, "customers": ["c1", "c2"]})
    assert [row["customer"] for row in rows] == ["c1", "c2"]
    for row in rows:
        assert list(row["values"]) == list(catalog.services[SERVICE])
        assert set(row["statuses"].values()) == {"NOT_FOUND"}


def test_corridor_features_alone(api: Api, write: Write, happen: Happen) -> None:
    write("corridor_costs", "GB-NG", {"providers": 12}, timedelta(days=1))
    happen([click("c1", "GB-NG")])
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
