"""What Prometheus gets to see."""

from __future__ import annotations

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from prometheus_client.parser import text_string_to_metric_families

from feature_repo.contracts.settings import PROJECT
from feature_repo.stores.redis_connection import connect
from feature_repo.stores.redis_layout import encode_string, entity_key_encoder, field_name
from tests.serving.conftest import SERVICE, Write

pytestmark = [pytest.mark.xdist_group("serving"), pytest.mark.usefixtures("valkey")]

Api = TestClient[Litestar]


def scrape(api: Api) -> dict[tuple[str, frozenset[str]], float]:
    answer = api.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_requests_predictions_and_freshness_are_counted(api: Api, write: Write) -> None:
    write("customer_profile", "c1", {"tenure_days": 3})
    before = scrape(api)
    assert api.post(f"/v1/predict/{SERVICE}", json={"customers": ["c1", "c2"]}).status_code == 200
    assert api.post(f"/v1/predict/{SERVICE}", json={}).status_code == 400
    assert api.get("/nowhere/at/all").status_code == 404
    after = scrape(api)

    def added(name: str, *labels: str) -> float:
        key = name, frozenset(labels)
        return after[key] - before.get(key, 0)

    route = "/v1/predict/{model}"
    assert added("daima_http_requests_total", route, "200") == 1
    assert added("daima_http_requests_total", route, "400") == 1
    assert added("daima_http_requests_total", "unknown", "404") == 1
    assert added("daima_http_request_seconds_count", route) == 2
    assert added("daima_predictions_total", SERVICE, "1") == 2
    assert added("daima_feature_rows_total", "customer_profile", "PRESENT") == 1
    assert added("daima_feature_rows_total", "customer_profile", "NOT_FOUND") == 1
    assert after["daima_model_serving", frozenset({SERVICE, "1", "champion"})] == 1
    assert after["process_resident_memory_bytes", frozenset()] > 0


def test_a_value_that_cannot_be_read_is_counted_and_fails_no_batch(
    api: Api, write: Write, valkey: str
) -> None:
    write("customer_profile", "c1", {"tenure_days": 3, "age_band": "25-34"})
    key = entity_key_encoder("customer_id", PROJECT)("c1")
    with connect(valkey) as client:
        client.hset(key, field_name("customer_profile", "tenure_days"), encode_string("three"))
    answer = api.post(f"/v1/predict/{SERVICE}", json={"customers": ["c1", "c2"]})
    assert answer.status_code == 200
    statuses = answer.json()["predictions"][0]["statuses"]
    assert statuses["customer_profile:tenure_days"] == "NULL_VALUE"
    assert statuses["customer_profile:age_band"] == "PRESENT"
    labels = frozenset({"customer_profile:tenure_days"})
    assert scrape(api)["daima_unreadable_values_total", labels] == 1


def test_a_customers_id_is_no_label(api: Api) -> None:
    api.get("/v1/profile/secret-customer")
    assert "secret-customer" not in api.get("/metrics").text
