"""A bearer token: who gets in, and what is never said."""

from __future__ import annotations

from dataclasses import replace

import pytest
from litestar.testing import TestClient
from mlflow import MlflowClient

from feature_repo.contracts.errors import SettingsError
from serving.app import create_app
from serving.auth import TokenGuard, UnauthorizedError
from serving.catalog import Catalog
from serving.settings import ServingSettings

pytestmark = pytest.mark.xdist_group("serving")

TOKEN = "0123456789abcdef-secret"  # noqa: S105


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer wrong",
        b"Basic " + TOKEN.encode(),
        TOKEN.encode(),
        b"Bearer " + TOKEN.encode() + b"x",
        b"Bearer " + TOKEN[:-1].encode(),
        b"Bearer \xff\xfe",
    ],
)
def test_whoever_does_not_bear_the_token_is_kept_out(header: bytes | None) -> None:
    with pytest.raises(UnauthorizedError, match="expected Bearer") as caught:
        TokenGuard(TOKEN).check("/v1/models", header)
    assert TOKEN not in str(caught.value)


def test_the_token_lets_in_and_probes_need_none() -> None:
    guard = TokenGuard(TOKEN)
    guard.check("/v1/models", b"Bearer " + TOKEN.encode())
    guard.check("/v1/models", b"bearer " + TOKEN.encode())
    guard.check("/health/ready", None)
    TokenGuard(None).check("/v1/models", None)


def test_every_route_but_the_probes_asks_for_it(
    settings: ServingSettings, catalog: Catalog, registry: MlflowClient
) -> None:
    app = create_app(replace(settings, token=TOKEN), catalog, registry)
    with TestClient(app) as api:
        for method, path in [
            ("POST", "/v1/predict/session_duration"),
            ("POST", "/v1/features"),
            ("POST", "/v1/events"),
            ("GET", "/v1/profile/c1"),
            ("GET", "/v1/models"),
            ("GET", "/metrics"),
            ("GET", "/schema"),
            ("GET", "/nowhere"),
        ]:
            answer = api.request(method, path)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "DAIMA_API_TOKEN" in answer.json()["detail"]
        assert api.get("/health/live").status_code == 200
        bearing = {"Authorization": f"Bearer {TOKEN}"}
        assert api.get("/v1/models", headers=bearing).status_code == 200
        page = api.get("/schema", headers=bearing)
        assert "Authorization: Bearer $DAIMA_API_TOKEN" in page.text
        assert TOKEN not in page.text
        document = api.get("/schema/openapi.json", headers=bearing).text
        assert '"securitySchemes"' in document


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.4", "api.example.org"])  # noqa: S104
def test_an_address_that_others_reach_needs_a_token(host: str) -> None:
    with pytest.raises(SettingsError, match=r"DAIMA_API_TOKEN.*not the loopback"):
        ServingSettings.from_env(host, 8000, {})
    found = ServingSettings.from_env(host, 8000, {"DAIMA_API_TOKEN": TOKEN})
    assert found.token == TOKEN
    assert TOKEN not in repr(found)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_the_loopback_needs_none(host: str) -> None:
    assert ServingSettings.from_env(host, 8000, {}).token is None


@pytest.mark.parametrize("token", ["short", "0123456789 abcdef", "0123456789abcdefé", "a" * 15])
def test_a_bad_token_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(SettingsError, match="at least 16 printable") as caught:
        ServingSettings.from_env("127.0.0.1", 8000, {"DAIMA_API_TOKEN": token})
    assert token not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("DAIMA_API_DEADLINE_MS", "0"),
        ("DAIMA_API_DEADLINE_MS", "1.5"),
        ("DAIMA_API_DEADLINE_MS", "60001"),
        ("DAIMA_API_IN_FLIGHT", "-1"),
        ("DAIMA_API_IN_FLIGHT", "many"),
        ("DAIMA_EVENTS_TO", "pulsar"),
    ],
)
def test_settings_that_are_wrong_are_named(name: str, text: str) -> None:
    with pytest.raises(SettingsError, match=name):
        ServingSettings.from_env("127.0.0.1", 8000, {name: text})


def test_settings_are_read_from_the_environment() -> None:
    found = ServingSettings.from_env(
        "127.0.0.1",
        8000,
        {
            "DAIMA_API_DEADLINE_MS": "250",
            "DAIMA_API_IN_FLIGHT": "7",
            "DAIMA_EVENTS_TO": "kafka",
            "DAIMA_POLICY": "/etc/policy.yaml",
        },
    )
    assert found.deadline.total_seconds() == 0.25
    assert (found.in_flight, found.events_to) == (7, "kafka")
    assert str(found.policy_file) == "/etc/policy.yaml"
