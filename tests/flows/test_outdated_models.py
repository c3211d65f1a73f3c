"""Champions that were trained on another embedding version are told of, and nobody else is."""

# Prefect is not followed by mypy (pyproject.toml), so its decorators look untyped.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import pytest
from prefect import flow

from feature_repo.contracts.settings import Settings
from flows import embed_customers as embedding
from flows import outdated_models as module
from flows.events import EMBEDDING_CHANGED
from flows.outdated_models import tell_outdated
from tests.training.sessions import settings_at

pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.xdist_group("prefect"),
]


def versions(settings: Settings, model: str, *tags: Mapping[str, str]) -> None:
    """Versions of a model that are nothing but tags; the last one is the champion."""
    client = mlflow.MlflowClient(settings.mlflow_url)
    client.create_registered_model(model)
    for each in tags:
        client.create_model_version(model, "nowhere", tags=dict(each))
    client.set_registered_model_alias(model, "champion", str(len(tags)))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []
    monkeypatch.setattr(module, "tell", lambda *event: found.append(event))
    return found


@pytest.fixture
def registry(tmp_path: Path) -> Settings:
    """The second embedding version serves."""
    settings = settings_at(tmp_path)
    versions(settings, "customer_embedding", {}, {})
    return settings


@flow
def after_a_change(settings: Settings) -> dict[str, int]:
    """The task, in a flow."""
    found: dict[str, int] = tell_outdated(settings)
    return found


@pytest.mark.usefixtures("prefect_server")
def test_those_of_another_version_alone_are_told_of(registry: Settings, told: list[Any]) -> None:
    versions(registry, "next_intent", {"embedding_version": "2"}, {"embedding_version": "1"})
    versions(registry, "call_within_day", {"embedding_version": "1"}, {"embedding_version": "2"})
    versions(registry, "payment_fraud", {})  # fed none
    assert after_a_change(registry) == {"next_intent": 1}
    assert told == [(EMBEDDING_CHANGED, "next_intent", {"trained_on": 1})]


@pytest.mark.usefixtures("prefect_server")
def test_where_no_embedding_serves_nothing_is_told(tmp_path: Path, told: list[Any]) -> None:
    settings = settings_at(tmp_path)
    versions(settings, "next_intent", {"embedding_version": "1"})
    assert after_a_change(settings) == {}
    assert told == []


@pytest.mark.usefixtures("prefect_server")
def test_it_is_looked_at_once_everybody_is_embedded_anew(
    registry: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions(registry, "next_intent", {"embedding_version": "1"})
    for name, value in registry.environment().items():
        if name != "PREFECT_API_URL":
            monkeypatch.setenv(name, value)
    steps: list[str] = []

    def re_embed(*_: object) -> int:
        steps.append("embed")
        return 7

    monkeypatch.setattr(embedding, "load_embedding", lambda *_: object())
    monkeypatch.setattr(embedding, "re_embed", re_embed)
    monkeypatch.setattr(module, "tell", lambda *event: steps.append(event[1]))
    assert embedding.embed_customers() == 7
    assert steps == ["embed", "next_intent"]
