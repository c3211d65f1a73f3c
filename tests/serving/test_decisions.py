"""Decisions in the answers, by a policy that changes while the API runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient
from mlflow import MlflowClient

from serving.app import create_app
from serving.catalog import Catalog
from serving.policy import PolicyError
from serving.settings import ServingSettings
from tests.serving.conftest import NOW, SERVICE, Training, wait_until

pytestmark = [pytest.mark.xdist_group("serving"), pytest.mark.usefixtures("valkey")]

RULES = f"""
models:
  {SERVICE}:
    value: prediction
    rules:
      - corridors: [GB-NG]
        amount_minor: {{from: 1000}}
        thresholds: {{block: 0}}
      - thresholds: {{review: 0, block: 1.0e+12}}
"""


@pytest.fixture
def own(settings: ServingSettings, tmp_path: Path) -> ServingSettings:
    shared = replace(settings.shared)
    return replace(
        settings,
        shared=shared,
        policy=tmp_path / "policy.yaml",
        policy_every=timedelta(milliseconds=20),
    )


@pytest.fixture
def api(
    own: ServingSettings, catalog: Catalog, registry: MlflowClient, register: Training
) -> Iterator[TestClient[Any]]:
    register()
    own.kept_policy.unlink(missing_ok=True)
    with TestClient(create_app(own, catalog, registry, clock=lambda: NOW)) as client:
        wait_until(lambda: client.get("/health/ready").status_code == 200)
        yield client
    own.kept_policy.unlink(missing_ok=True)


def decision(api: TestClient[Any], **fields: Any) -> Any:
    answer = api.post(f"/v1/predict/{SERVICE}", json={"customer": "c1", **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"][0]["decision"]


def test_a_policy_decides_as_soon_as_its_file_is_there(
    api: TestClient[Any], own: ServingSettings
) -> None:
    assert decision(api) is None
    assert own.policy is not None
    own.policy.write_text(RULES)
    wait_until(lambda: api.get("/v1/policy").json()["models"] == [SERVICE])
    assert decision(api) == {"action": "review", "reasons": ["prediction >= 0"]}
    found = decision(api, corridor="GB-NG", context={"amount_minor": 1000})
    assert found == {
        "action": "block",
        "reasons": ["prediction >= 0", "corridor GB-NG", "amount_minor 1000.."],
    }
    assert decision(api, corridor="GB-NG")["action"] == "review", "the amount is unknown"

    own.policy.write_text("models: {nonsense")
    wait_until(lambda: api.get("/v1/policy").json()["refused"] is not None)
    state = api.get("/v1/policy").json()
    assert "YAML" in state["refused"]
    assert (state["models"], state["since"]) == ([SERVICE], "2026-03-02T12:00:00Z")
    assert decision(api)["action"] == "review", "the former one stays"

    profile = api.get("/v1/profile/c1").json()
    assert profile["predictions"][0]["decision"]["action"] == "review"


def test_a_malformed_policy_is_refused_at_the_start(
    own: ServingSettings, catalog: Catalog, registry: MlflowClient
) -> None:
    own.kept_policy.unlink(missing_ok=True)
    assert own.policy is not None
    own.policy.write_text("models: {nonsense")
    with pytest.raises(PolicyError, match="YAML"):
        create_app(own, catalog, registry)
