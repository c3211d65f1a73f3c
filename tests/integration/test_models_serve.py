"""Each model, trained on a simulated world and registered, answers through the API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import polars as pl
import pytest
from litestar.testing import TestClient

from feature_repo.contracts.embeddings import EMBEDDING_WIDTH
from feature_repo.contracts.model_files import GOLDEN_FILE, Golden
from feature_repo.contracts.settings import Settings
from serving.app import create_app
from serving.catalog import load_catalog
from serving.settings import ServingSettings
from tests.serving.conftest import wait_until
from tests.serving.embedded import embed
from tests.training.embedding.registered import register_untrained
from tests.training.simulated import FIRST_DAY, simulated_store, simulated_world
from training.champion import load_champion
from training.drift import drift
from training.embedding.config import NAME as EMBEDDING
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
# So many that each part of the data has some.
FRAUDS = {"account_takeover": 10.0, "mules": 10.0, "card_testing": 10.0}
QUICK: dict[str, dict[str, Any]] = {
    "session_duration": {},
    "session_duration_network": {"hidden": [8], "steps": 1, "replayed": 0},
    "call_within_day": {},
    "payment_fraud": {
        # Shorter than labels take: there are thirty days only.
        "gap": "P1D", "treatments": ["none"], "min_data_in_leaf": 5,
        "anomaly": {"hidden": [8, 2], "epochs": 2},
    },
    "next_intent": {"within": "P2D", "gap": "P2DT3H"},
    "customer_value": {
        "horizon": "P4D", "gap": "P4D", "every": "P1D", "history": "P8D",
        "validation_share": 0.4, "test_share": 0.25,
    },
}  # fmt: skip


# What is fed an embedding has a golden row more: of another version.
FED = {"call_within_day", "payment_fraud", "next_intent", "customer_value"}
GOLDEN = {model: 34 if model in FED else 33 for model in QUICK}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, valkey_of_module: str) -> Settings:
    """Three hundred customers, whose models are all champions, with an embedding that is another
    for another customer and means nothing."""
    home = tmp_path_factory.mktemp("served")
    settings = replace(
        simulated_store(home, simulated_world(300, DAYS, seed=5, **FRAUDS)), redis=valkey_of_module
    )
    client = mlflow.MlflowClient(settings.mlflow_url)
    client.create_experiment(EMBEDDING, artifact_location=str(home / "artifacts" / EMBEDDING))
    assert register_untrained(settings, 1) == 1
    for model, changes in QUICK.items():
        client.create_experiment(model, artifact_location=str(home / "artifacts" / model))
        quick = {"bootstrap_resamples": 50, "threads": 1}
        if model != "session_duration_network":
            quick["max_rounds"] = 15
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
    assert served[model]["golden_rows"] == GOLDEN[model], "verified"
    assert served[model]["tags"].get("embedding_version") == ("1" if model in FED else None)
    rows = pl.read_parquet(
        world.batch_table("customer_history") / f"event_date={END:%Y-%m-%d}" / "*.parquet"
    ).sort("sent_daily_ref_minor", descending=True)
    best = str(rows["customer_id"][0])
    answer = api.post(f"/v1/predict/{model}", json={"customers": [best, "nobody"], "explain": 3})
    assert answer.status_code == 200, answer.text
    first, nobody = answer.json()["predictions"]
    # Nothing cheap tells what weighs how much in a network.
    assert len(first["explanation"]) == (0 if model == "session_duration_network" else 3)
    assert ("classes" in first) == (model == "next_intent")
    assert ("percentiles" in first) == (model == "customer_value")
    assert ("anomaly" in first) == (model == "payment_fraud")
    if model in {"call_within_day", "payment_fraud"}:
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


@pytest.mark.parametrize("model", sorted(FED))
def test_it_is_fed_its_own_embedding_version_alone(
    model: str, world: Settings, api: TestClient[Any]
) -> None:
    """Customers of whom nothing but a vector is known."""
    rng = np.random.default_rng(2)
    directions = {f"v{number}": rng.normal(size=EMBEDDING_WIDTH).tolist() for number in range(40)}

    def answers(names: list[str]) -> list[dict[str, Any]]:
        found = api.post(f"/v1/predict/{model}", json={"customers": names})
        assert found.status_code == 200, found.text
        made: list[dict[str, Any]] = found.json()["predictions"]
        return made

    (nobody,) = answers(["nobody"])
    ref = "customer_embedding:embedding"
    embed(world, directions, version=2)
    others = answers(list(directions))
    assert {each["score"] for each in others} == {nobody["score"]}
    assert {each["statuses"][ref] for each in others} == {"OTHER_VERSION"}
    embed(world, directions, version=1)
    own = answers(list(directions))
    assert {each["statuses"][ref] for each in own} == {"PRESENT"}
    # The others' few trees found no use for numbers that mean nothing.
    if model in {"call_within_day", "next_intent"}:
        assert len({each["score"] for each in own}) > 1, "the vectors are looked at"


@pytest.mark.parametrize("model", sorted(QUICK))
def test_its_inputs_and_predictions_are_watched_for_drift(model: str, world: Settings) -> None:
    found = drift(world, model, least_rows=50)
    champion = load_champion(world, model)
    assert champion is not None
    outputs = found.columns.filter(pl.col("importance").is_null())["column"].to_list()
    assert set(found.columns["column"]) == {*champion.inputs.columns, *outputs}
    if model == "next_intent":
        assert {f"prediction[{intent}]" for intent in INTENTS} <= set(outputs)
    else:
        assert "prediction" in outputs
    # Two weeks of a world that is thirty days old: what counts over longer has grown, and tells.
    assert found.columns["psi"].max() > 0.1  # type: ignore[operator]
    assert found.picture(found.alarming()).startswith(b"\x89PNG")


def golden_of(world: Settings, model: str) -> tuple[str, Golden, dict[str, Any]]:
    """A champion's URI, its golden rows, and those as MLflow's servers take them."""
    mlflow.set_tracking_uri(world.mlflow_url)
    uri = f"models:/{model}@champion"
    folder = Path(mlflow.artifacts.download_artifacts(uri))
    assert not [file for file in folder.rglob("*") if file.suffix in {".pkl", ".pickle"}]
    golden = Golden.from_json((folder / GOLDEN_FILE).read_bytes())
    columns = mlflow.models.get_model_info(uri).signature.inputs.input_names()
    return uri, golden, {"columns": columns, "data": golden.rows}


def outputs_of(golden: Golden) -> Any:
    """What plain MLflow must say of golden rows: scores, or chances a class."""
    return np.array(golden.scores if golden.classes is None else golden.classes)


@pytest.mark.parametrize("model", sorted(QUICK))
def test_plain_mlflow_scores_the_golden_rows_as_serving_does(model: str, world: Settings) -> None:
    uri, golden, rows = golden_of(world, model)
    frame = pl.DataFrame(golden.matrix, rows["columns"], orient="row").to_pandas()
    found = np.asarray(mlflow.pyfunc.load_model(uri).predict(frame))
    assert len(golden.rows) == GOLDEN[model]
    np.testing.assert_allclose(found, outputs_of(golden), rtol=1e-9)
    # One row, and a column that is not there.
    one = np.asarray(mlflow.pyfunc.load_model(uri).predict(frame.head(1)))
    np.testing.assert_allclose(one, outputs_of(golden)[:1], rtol=1e-9)
    with pytest.raises(mlflow.MlflowException, match="missing inputs"):
        mlflow.pyfunc.load_model(uri).predict(frame.drop(columns=rows["columns"][0]))


@pytest.mark.parametrize(
    "model", ["session_duration", "session_duration_network", "next_intent", "payment_fraud"]
)
def test_the_command_line_of_mlflow_predicts(model: str, world: Settings, tmp_path: Path) -> None:
    uri, golden, rows = golden_of(world, model)
    (tmp_path / "rows.json").write_text(json.dumps({"dataframe_split": rows}))
    command = [
        *(sys.executable, "-m", "mlflow", "models", "predict", "--model-uri", uri),
        *("--input-path", str(tmp_path / "rows.json"), "--content-type", "json"),
        *("--output-path", str(tmp_path / "out.json"), "--env-manager", "local"),
    ]
    environment = os.environ | {"MLFLOW_TRACKING_URI": world.mlflow_url}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out.json").read_text())["predictions"]
    if found and isinstance(found[0], dict):
        found = [list(row.values()) for row in found]
    wanted = outputs_of(golden)
    np.testing.assert_allclose(np.array(found).reshape(wanted.shape), wanted, rtol=1e-6)
