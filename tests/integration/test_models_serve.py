"""Each model, trained on a simulated world and registered, answers through the API."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import mlflow
import polars as pl
import pytest
from litestar.testing import TestClient

from feature_repo.contracts.settings import Settings
from serving.app import create_app
from serving.catalog import load_catalog
from serving.settings import ServingSettings
from tests.serving.conftest import wait_until
from tests.training.simulated import FIRST_DAY, simulated_store, simulated_world
from training.history import publish_history
from training.intents import INTENTS
from training.models import MODELS
from training.retraining import retrain

pytestmark = [
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.xdist_group("prefect"),
]
DAYS = 30
END = FIRST_DAY + timedelta(days=DAYS)
QUICK: dict[str, dict[str, Any]] = {
    "session_duration": {},
    "call_within_day": {},
    "next_intent": {"within": "P2D", "gap": "P2DT3H"},
    "customer_value": {
        "horizon": "P4D", "gap": "P4D", "every": "P1D", "history": "P8D",
        "validation_share": 0.4, "test_share": 0.25,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, valkey_of_module: str) -> Settings:
    """Three hundred customers, whose models are all champions."""
    home = tmp_path_factory.mktemp("served")
    settings = replace(
        simulated_store(home, simulated_world(300, DAYS, seed=5)), redis=valkey_of_module
    )
    client = mlflow.MlflowClient(settings.mlflow_url)
    for model, changes in QUICK.items():
        client.create_experiment(model, artifact_location=str(home / "artifacts" / model))
        quick = {"max_rounds": 15, "bootstrap_resamples": 50, "threads": 1}
        done = retrain(settings, model, changes=changes | quick)
        client.set_registered_model_alias(model, "champion", str(done.version))
    return settings


@pytest.fixture(scope="module")
def valkey_of_module(valkey_server: Any) -> str:
    return f"{valkey_server.host}:{valkey_server.port}"


@pytest.fixture(scope="module")
def api(world: Settings) -> Iterator[TestClient[Any]]:
    publish_history(world, END)
    registry = mlflow.MlflowClient(world.mlflow_url, world.mlflow_url)
    serving = ServingSettings(world, reload_every=timedelta(milliseconds=100))
    app = create_app(serving, load_catalog(world), registry, clock=lambda: END)
    with TestClient(app) as client:
        wait_until(lambda: len(client.get("/v1/models").json()["models"]) == len(QUICK), 60)
        yield client


def test_every_model_is_among_them() -> None:
    assert set(MODELS) <= set(QUICK), "give each new model a quick configuration here"


@pytest.mark.parametrize("model", sorted(QUICK))
def test_it_answers_in_its_own_way(model: str, world: Settings, api: TestClient[Any]) -> None:
    served = {each["name"]: each for each in api.get("/v1/models").json()["models"]}
    assert served[model]["golden_rows"] == 33, "verified"
    rows = pl.read_parquet(
        world.batch_table("customer_history") / f"event_date={END:%Y-%m-%d}" / "*.parquet"
    ).sort("sent_daily_ref_minor", descending=True)
    best = str(rows["customer_id"][0])
    answer = api.post(f"/v1/predict/{model}", json={"customers": [best, "nobody"], "explain": 3})
    assert answer.status_code == 200, answer.text
    first, nobody = answer.json()["predictions"]
    assert len(first["explanation"]) == 3
    assert ("classes" in first) == (model == "next_intent")
    assert ("percentiles" in first) == (model == "customer_value")
    if model == "call_within_day":
        assert 0 < first["probability"] < 1
    if model == "next_intent":
        assert list(first["classes"]) == list(INTENTS)
        assert sum(first["classes"].values()) == pytest.approx(1.0)
    if model == "customer_value":
        low, middle, high = (first["percentiles"][name] for name in ("p10", "p50", "p90"))
        assert low <= middle <= high
        own = rows["sent_daily_ref_minor"][0] * 4
        assert first["prediction"] == pytest.approx(own, rel=0.7), "about what went before"
        assert nobody["prediction"] < 0.05 * first["prediction"]
        assert first["statuses"]["customer_history:sent_daily_ref_minor"] == "PRESENT"
