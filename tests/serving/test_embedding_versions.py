"""A model trained on one embedding version is never served another, whoever asks."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import lightgbm
import msgspec
import numpy as np
import polars as pl
import pytest
from litestar.testing import TestClient
from mlflow import MlflowClient

from feature_repo.contracts.embeddings import EMBEDDING_VIEW, EMBEDDING_WIDTH
from feature_repo.contracts.model_files import Golden, Vector
from feature_repo.contracts.model_inputs import LEFT_OUT_VIEWS, ModelInput, ModelInputs
from feature_repo.contracts.settings import Settings
from feature_repo.contracts.target_scale import BACK_TRANSFORMS
from feature_repo.scoring.one_version import OneVersion, guarded
from feature_repo.scoring.scorers import Trees
from serving.app import create_app
from serving.catalog import Catalog
from serving.edge import Edge
from serving.feature_log_settings import FeatureLogSettings
from serving.settings import ServingSettings
from tests.serving.conftest import NOW, Training, Write, wait_until, with_categories
from tests.serving.embedded import embed, without_embeddings

pytestmark = pytest.mark.xdist_group("serving")

MODEL = "call_within_day"
REFS = (f"{EMBEDDING_VIEW}:embedding", f"{EMBEDDING_VIEW}:embedding_version")
Api = TestClient[Edge]


def trained_on(inputs: ModelInputs, version: int) -> ModelInputs:
    """The inputs as a version has them that was trained on an embedding version."""

    def fill(item: ModelInput) -> ModelInput:
        if item.view != EMBEDDING_VIEW:
            return item
        if item.is_array:
            return msgspec.structs.replace(item, length=EMBEDDING_WIDTH)
        return msgspec.structs.replace(item, only=version)

    found = with_categories(inputs)
    return msgspec.structs.replace(found, inputs=tuple(map(fill, found.inputs)))


def trees(inputs: ModelInputs) -> lightgbm.Booster:
    """Trees that lean on the first number of the vector, on its version and on the tenure."""
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(900, inputs.width))
    columns = inputs.columns
    first, version = columns.index("embedding_0"), columns.index("embedding_version")
    matrix[:, version] = rng.integers(1, 3, 900)
    matrix[rng.random(900) < 0.4, first : version + 1] = np.nan
    matrix[:, columns.index("tenure_days")] *= 300
    target = np.nan_to_num(matrix[:, first] + matrix[:, version], nan=6.0)
    target += matrix[:, columns.index("tenure_days")] / 300
    options = {"objective": "regression", "verbosity": -1, "num_threads": 1}
    return lightgbm.train(options, lightgbm.Dataset(matrix, target), 40)


def golden(inputs: ModelInputs, booster: lightgbm.Booster) -> str:
    """Golden rows, the last of which carries another version."""
    rows: Vector = np.random.default_rng(0).normal(size=(4, inputs.width))
    guard = OneVersion.of(inputs)
    assert guard is not None
    rows[:, guard.column] = [guard.only, guard.only, np.nan, guard.only + 1]
    scores, _ = guarded(Trees(booster), inputs).score(rows)
    return Golden.of(rows, scores, BACK_TRANSFORMS["log1p"](scores), None).to_json().decode()


@pytest.fixture
def home(settings: ServingSettings, valkey: str) -> Iterator[Settings]:
    shared = settings.shared
    assert shared.redis == valkey
    without_embeddings(shared)
    yield shared
    without_embeddings(shared)
    shutil.rmtree(shared.home / "feature_log" / MODEL, ignore_errors=True)


@pytest.fixture
def fed_vectors(register: Training, catalog: Catalog) -> Callable[..., ModelInputs]:
    """Register a version that was trained on an embedding version; its inputs."""

    def made(version: int, **more: Any) -> ModelInputs:
        inputs = trained_on(catalog.service_inputs(MODEL), version)
        booster = trees(inputs)
        files = {"model.lgb": booster.model_to_string(), "golden.json": golden(inputs, booster)}
        register(MODEL, inputs=inputs, files=files, **more)
        return inputs

    return made


@pytest.fixture
def start(
    settings: ServingSettings, catalog: Catalog, registry: MlflowClient, home: Settings
) -> Iterator[Callable[..., Api]]:
    opened: list[Api] = []

    def started(**changes: Any) -> Api:
        chosen = replace(settings, **changes)
        client = TestClient(create_app(chosen, catalog, registry, clock=lambda: NOW))
        opened.append(client.__enter__())
        wait_until(lambda: client.get("/v1/models").json()["models"] != [])
        return client

    yield started
    for client in opened:
        client.__exit__(None, None, None)


def predict(api: Api, *customers: str, **more: Any) -> list[dict[str, Any]]:
    answer = api.post(f"/v1/predict/{MODEL}", json={"customers": customers, **more})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["predictions"]
    return found


def left_out(api: Api) -> float:
    lines = api.get("/metrics").text.splitlines()
    start = f'daima_other_embedding_versions_total{{model="{MODEL}"'
    return sum(float(line.split()[-1]) for line in lines if line.startswith(start))


def alike_but_for_vectors(write: Write, *customers: str) -> None:
    for customer in customers:
        write("customer_profile", customer, {"tenure_days": 400}, timedelta(days=1))


def test_a_vector_of_another_version_is_answered_as_none(
    start: Callable[..., Api],
    home: Settings,
    write: Write,
    fed_vectors: Callable[..., ModelInputs],
    caplog: pytest.LogCaptureFixture,
) -> None:
    fed_vectors(1)
    alike_but_for_vectors(write, "own", "other", "bare")
    embed(home, {"own": (1.0, 0.5)}, version=1)
    embed(home, {"other": (1.0, 0.5)}, version=2)
    api = start()
    with caplog.at_level(logging.WARNING, logger="serving.online"):
        own, other, bare = predict(api, "own", "other", "bare", explain=20)
        assert left_out(api) == 1
        assert predict(api, "other")[0]["score"] == other["score"]
    assert other["score"] == bare["score"]
    assert own["score"] != bare["score"]
    assert left_out(api) == 2
    said = [each.getMessage() for each in caplog.records if "embedding version" in each.message]
    assert len(said) == 1, "once a minute"
    assert "was trained on embedding version 1, and 1 customers have vectors of another" in said[0]

    assert [own["statuses"][ref] for ref in REFS] == ["PRESENT"] * 2
    assert [other["statuses"][ref] for ref in REFS] == ["OTHER_VERSION"] * 2
    assert [bare["statuses"][ref] for ref in REFS] == ["NOT_FOUND"] * 2
    rest = {ref: status for ref, status in own["statuses"].items() if ref not in REFS}
    assert all(other["statuses"][ref] == status for ref, status in rest.items())
    # What it was fed is what is explained.
    fed = {part["name"]: part["value"] for part in other["explanation"]}
    assert {f"{REFS[0]}[0]", REFS[1]} <= set(fed)
    assert {fed[name] for name in fed if name.startswith(EMBEDDING_VIEW)} == {None}
    parts = {part["name"]: part["value"] for part in own["explanation"]}
    assert parts[REFS[1]] == 1.0


def test_once_its_own_version_is_back_it_is_fed_again(
    start: Callable[..., Api],
    home: Settings,
    write: Write,
    fed_vectors: Callable[..., ModelInputs],
) -> None:
    fed_vectors(1)
    alike_but_for_vectors(write, "c", "bare")
    api = start()
    embed(home, {"c": (1.0, 0.5)}, version=2)
    (other, bare) = predict(api, "c", "bare")
    assert other["score"] == bare["score"]
    embed(home, {"c": (1.0, 0.5)}, version=1)
    (own,) = predict(api, "c")
    assert own["score"] != bare["score"]
    assert own["statuses"][REFS[0]] == "PRESENT"


def test_the_log_holds_what_was_fed(
    start: Callable[..., Api],
    home: Settings,
    write: Write,
    fed_vectors: Callable[..., ModelInputs],
) -> None:
    inputs = fed_vectors(1)
    alike_but_for_vectors(write, "own", "other")
    embed(home, {"own": (1.0, 0.5)}, version=1)
    embed(home, {"other": (1.0, 0.5)}, version=2)
    log = FeatureLogSettings(share=1.0, file_age=timedelta(0))
    api = start(feature_log=log)
    predict(api, "own", "other")
    folder = home.home / "feature_log" / MODEL
    wait_until(lambda: any(folder.rglob("*.parquet")))
    rows = pl.read_parquet(folder / "**/*.parquet").sort("customer")
    other, own = rows.iter_rows(named=True)
    assert np.isnan(other[REFS[1]])
    assert np.isnan([other[f"{REFS[0]}[{place}]"] for place in range(EMBEDDING_WIDTH)]).all()
    assert own[REFS[1]] == 1.0
    assert own[f"{REFS[0]}[0]"] == pytest.approx(1.0 / np.hypot(1.0, 0.5))
    assert inputs.embedding_version == 1


def test_a_shadow_of_another_embedding_version_is_fed_its_own(
    start: Callable[..., Api],
    home: Settings,
    write: Write,
    fed_vectors: Callable[..., ModelInputs],
) -> None:
    fed_vectors(1)
    fed_vectors(2, alias="shadow")
    alike_but_for_vectors(write, "c", "bare")
    embed(home, {"c": (1.0, 0.5)}, version=2)
    api = start(feature_log=FeatureLogSettings(share=1.0, file_age=timedelta(0)))
    wait_until(lambda: len(api.get("/v1/models").json()["models"]) == 2)
    predict(api, "c")
    folder = home.home / "feature_log" / MODEL
    wait_until(lambda: len(list(folder.rglob("*-[12]-*.parquet"))) == 2)
    rows = pl.concat(
        pl.read_parquet(file).with_columns(pl.col("alias").cast(pl.String))
        for file in folder.rglob("*.parquet")
    )
    fed = {row["alias"]: row for row in rows.iter_rows(named=True)}
    assert np.isnan(fed["champion"][REFS[1]])
    assert fed["shadow"][REFS[1]] == 2.0
    assert fed["shadow"]["score"] != fed["champion"]["score"]


def test_who_was_trained_without_serves_without(
    start: Callable[..., Api],
    home: Settings,
    write: Write,
    register: Training,
    catalog: Catalog,
) -> None:
    inputs = with_categories(catalog.service_inputs(MODEL)).without(LEFT_OUT_VIEWS)
    register(MODEL, inputs=inputs)
    alike_but_for_vectors(write, "c", "bare")
    embed(home, {"c": (1.0, 0.5)}, version=2)
    api = start()
    (known, bare) = predict(api, "c", "bare")
    assert known["score"] == bare["score"]
    assert not [ref for ref in known["statuses"] if ref.startswith(EMBEDDING_VIEW)], "not read"
    assert left_out(api) == 0


def test_vectors_of_no_one_version_are_refused(
    settings: ServingSettings,
    catalog: Catalog,
    registry: MlflowClient,
    fed_vectors: Callable[..., ModelInputs],
    register: Training,
) -> None:
    inputs = trained_on(catalog.service_inputs(MODEL), 1)
    careless = msgspec.structs.replace(
        inputs, inputs=tuple(msgspec.structs.replace(item, only=None) for item in inputs.inputs)
    )
    booster = trees(inputs)
    register(MODEL, inputs=careless, files={"model.lgb": booster.model_to_string()})
    with TestClient(create_app(settings, catalog, registry, clock=lambda: NOW)) as client:
        found = partial(client.get, "/v1/models")
        wait_until(lambda: found().json()["refused"] != [])
        (refused,) = found().json()["refused"]
    assert "vectors of one version" in refused["reason"]
