"""Every wrong request gets a 4xx that says what to send."""

from __future__ import annotations

import json
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from tests.serving.conftest import SERVICE

pytestmark = pytest.mark.xdist_group("serving")

Api = TestClient[Litestar]
PREDICT = f"/v1/predict/{SERVICE}"


def problem(answer: Any, status: int) -> Any:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == status
    assert document["request_id"] == answer.headers["x-request-id"]
    return document


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "truncated"),
        (b"customers=c1", "malformed"),
        (b"\xff\xfe", "malformed"),
        (b'{"customers": ["\xff"]}', "utf-8"),
        (b'{"customers": ["\\ud800"]}', "body"),
        (b"[]", "Expected `object`, got `array`"),
        (b'{"customers": "c1"}', "Expected `array | null`, got `str`"),
        (b'{"customers": [1]}', "Expected `str`, got `int`"),
        (b'{"customers": [null]}', "Expected `str`, got `null`"),
        (b'{"customers": NaN}', "malformed"),
        (b'{"customers": [""]}', "length >= 1"),
        (b'{"customers": []}', "length >= 1"),
        (json.dumps({"customers": ["c"] * 1001}).encode(), "length <= 1000"),
        (json.dumps({"customer": "c" * 257}).encode(), "length <= 256"),
        (b'{"customer": "c1", "customers": ["c1"]}', "either customers (a list) or customer"),
        (b"{}", "either customers (a list) or customer"),
        (b'{"custommers": ["c1"]}', "unknown field `custommers`"),
        (b'{"customer": "c1", "corridor": "GB"}', "regex"),
        (b'{"customer": "c1", "corridor": "gb-ng"}', "regex"),
        (b'{"customer": "c1", "corridor": "GB-NG\\n"}', "length <= 5"),
        (b'{"customer": "c1", "as_of": "2026-03-02T12:00:00"}', "timezone"),
        (b'{"customer": "c1", "as_of": "yesterday"}', "as_of"),
        (b'{"customer": "c1", "as_of": 1772452800}', "as_of"),
        (b'{"customer": "c1", "as_of": 1e400}', "as_of"),
        (b'{"customers": ' + b"[" * 100_000, "Expected `str`, got `array`"),
    ],
)
def test_a_wrong_body_is_told_what_is_right(api: Api, body: bytes, says: str) -> None:
    for path in (PREDICT, "/v1/features"):
        document = problem(api.post(path, content=body), 400)
        assert says in document["detail"]
        answer = api.post(path, json=document["example"])
        assert answer.status_code == 200, "the example must work when pasted"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (b'"context": {"amount_minor": NaN}', "malformed"),
        (b'"context": {"amount_minor": Infinity}', "malformed"),
        (b'"context": {"amount_minor": -Infinity}', "malformed"),
        (b'"context": {"amount_minor": 1e400}', "amount_minor"),
        (b'"context": {"amount_minor": 1.5}', "Expected `int | null`, got `float`"),
        (b'"context": {"amount_minor": -1}', ">= 0"),
        (b'"context": {"amount_minor": 99999999999999999999}', "amount_minor"),
        (b'"context": {"amount": 1}', "unknown field `amount`"),
        (b'"context": {"corridor": "GB"}', "regex"),
        (b'"context": {"device": ""}', "length >= 1"),
        (b'"context": {"corridor": "GB-IN"}, "corridor": "GB-NG"', "the same as corridor"),
        (b'"context": []', "Expected `object | null`, got `array`"),
        (b'"explain": 21', "<= 20"),
        (b'"explain": -1', ">= 0"),
        (b'"explain": "all"', "Expected `int`, got `str`"),
    ],
)
def test_a_wrong_context_is_told_what_is_right(api: Api, fields: bytes, says: str) -> None:
    document = problem(api.post(PREDICT, content=b'{"customer": "c1", ' + fields + b"}"), 400)
    assert says in document["detail"]
    assert api.post(PREDICT, json=document["example"]).status_code == 200


def test_a_thousand_customers_are_not_too_many(api: Api) -> None:
    answer = api.post(PREDICT, json={"customers": ["é" * 256] * 1000})
    assert answer.status_code == 200
    assert len(answer.json()["predictions"]) == 1000


@pytest.mark.parametrize("as_of", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_any_instant_can_be_asked_about(api: Api, as_of: str) -> None:
    assert api.post(PREDICT, json={"customer": "c1", "as_of": as_of}).status_code == 200


def test_a_body_of_10_mb_is_too_large(api: Api) -> None:
    document = problem(api.post(PREDICT, content=b" " * 10_000_000), 413)
    assert "fewer customers" in document["detail"]


def test_an_unknown_model_is_told_which_there_are(api: Api) -> None:
    document = problem(api.post("/v1/predict/churn", json={"customer": "c1"}), 404)
    assert "model is 'churn': expected one of ['session_duration']" in document["detail"]
    assert "@champion" in document["detail"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"customer": "c1"}, "feature services are ['call_within_day', "),
        ({"customer": "c1", "features": []}, "either feature_service or features"),
        (
            {"customer": "c1", "features": ["customer_profile:kyc_level"], "feature_service": "x"},
            "either feature_service or features",
        ),
        ({"customer": "c1", "feature_service": "x"}, "feature_service is 'x'"),
        ({"customer": "c1", "features": ["kyc_level"]}, "expected view:feature; views are"),
        ({"customer": "c1", "features": ["customer_profile:age"]}, "customer_profile has ['age_b"),
        ({"customer": "c1", "features": [7]}, "Expected `str`, got `int`"),
    ],
)
def test_wrong_features_are_told_which_there_are(api: Api, body: Any, says: str) -> None:
    assert says in problem(api.post("/v1/features", json=body), 400)["detail"]


def test_a_path_that_is_none_lists_those_that_are(api: Api) -> None:
    document = problem(api.get("/v1/predictions"), 404)
    assert "POST /v1/predict/{model:str}" in document["routes"]
    document = problem(api.get(PREDICT), 405)
    assert "POST /v1/predict/{model:str}" in document["routes"]
