"""Embeddings retrained: everybody is embedded before the alias moves; a roll-back leads back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import mlflow
import numpy as np
import pytest
import redis

from feature_repo.contracts.embeddings import EMBEDDING_VIEW, CustomerState
from feature_repo.contracts.errors import DatasetError, ModelError
from feature_repo.contracts.settings import Settings
from feature_repo.stores.embedding_changes import serving_version
from feature_repo.stores.embedding_rows import latest_embeddings
from feature_repo.stores.feast_store import open_store
from tests.applied import apply_definitions
from tests.training.simulated import FIRST_DAY, simulated_store, simulated_world

pytest.importorskip("torch", reason="torch is an extra")

from flows import outdated_models
from flows.embed_customers import embed_customers
from flows.events import EMBEDDING_CHANGED
from flows.retrain_embeddings import retrain_embeddings
from training.embedding.config import NAME
from training.embedding.versions import load_embedding

pytestmark = [
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.xdist_group("prefect"),
]
DAYS = 30
QUICK: dict[str, Any] = {"epochs": 12, "warm_epochs": 2, "batch_sessions": 512, "threads": 1}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = simulated_store(
        tmp_path_factory.mktemp("embedded"), simulated_world(1_000, DAYS, seed=6)
    )
    client = mlflow.MlflowClient(settings.mlflow_url)
    client.create_experiment(NAME, artifact_location=str(settings.home / "artifacts"))
    return settings


@pytest.fixture
def settings(world: Settings, valkey: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    found = replace(world, redis=valkey)
    apply_definitions(found)
    for name, value in found.environment().items():
        if name != "PREFECT_API_URL":
            monkeypatch.setenv(name, value)
    return found


def online(settings: Settings, customers: list[str]) -> tuple[Any, list[Any], list[Any]]:
    refs = [f"{EMBEDDING_VIEW}:embedding", f"{EMBEDDING_VIEW}:embedding_version"]
    refs.append("customer_embedding_state:embedding_state")
    rows = [{"customer_id": customer} for customer in customers]
    found = open_store(settings).get_online_features(refs, rows).to_dict()
    vectors = np.array(found["embedding"], np.float32)
    return vectors, found["embedding_version"], found["embedding_state"]


@pytest.mark.usefixtures("prefect_server")
def test_from_nothing_to_a_warm_start_and_back(
    settings: Settings, client: redis.Redis[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    early = FIRST_DAY + timedelta(days=DAYS - 6)
    first = retrain_embeddings(end=early, changes=QUICK)
    assert (first.version, first.known) == (1, False)
    assert first.promoted, first.verdict
    assert serving_version(client) == 1
    customers = latest_embeddings(settings, 1)["customer_id"].to_list()
    assert len(customers) > 800
    before, versions, states = online(settings, customers)
    assert set(versions) == {1}
    np.testing.assert_allclose(np.linalg.norm(before, axis=1), 1.0, atol=1e-5)
    one = load_embedding(settings)
    assert one is not None
    assert {CustomerState.from_bytes(raw).version for raw in states} == {one.encoder.version}

    again = retrain_embeddings(end=early, changes=QUICK)
    assert (again.version, again.known, again.promoted) == (1, True, True)

    registry = mlflow.MlflowClient(settings.mlflow_url)
    registry.create_registered_model("next_intent")
    registry.create_model_version("next_intent", "nowhere", tags={"embedding_version": "1"})
    registry.set_registered_model_alias("next_intent", "champion", "1")
    told: list[Any] = []
    monkeypatch.setattr(outdated_models, "tell", lambda *event: told.append(event))
    second = retrain_embeddings(changes=QUICK)
    assert second.version == 2
    tags = mlflow.MlflowClient(settings.mlflow_url).get_model_version(NAME, "2").tags
    assert tags["decision_against"] == "champion version 1"
    if not second.promoted:  # worse beyond the tolerance: nothing changed
        assert serving_version(client) == 1
        pytest.fail(second.verdict)
    assert serving_version(client) == 2
    after, versions, _ = online(settings, customers)
    assert set(versions) == {2}
    cosine = (before * after).sum(axis=1)
    assert np.median(cosine) >= 0.9, "a warm start keeps the space"
    # Who learnt on the former version is retrained; after the roll-back nobody is to be.
    assert told == [(EMBEDDING_CHANGED, "next_intent", {"trained_on": 1})]

    mlflow.MlflowClient(settings.mlflow_url).set_registered_model_alias(NAME, "champion", "1")
    assert embed_customers() >= len(customers)
    assert len(told) == 1
    assert serving_version(client) == 1
    back, versions, _ = online(settings, customers)
    assert set(versions) == {1}
    np.testing.assert_allclose(back, before, atol=1e-5)


@pytest.mark.usefixtures("prefect_server")
def test_what_cannot_be_is_named(settings: Settings) -> None:
    with pytest.raises(DatasetError, match="at least 1000 finished sessions"):
        retrain_embeddings(end=FIRST_DAY + timedelta(days=1), changes=QUICK)
    with pytest.raises(ModelError, match="epochs"):
        retrain_embeddings(changes={"epochs": "many"})
    with pytest.raises(ModelError, match="version 99"):
        embed_customers(version=99)
