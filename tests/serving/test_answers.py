"""Versions that answer more than one number: chances of classes, money with percentiles."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import lightgbm
import numpy as np
import pytest
from litestar.testing import TestClient

from feature_repo.contracts.model_files import Answer, Exposure, Golden, Percentiles
from feature_repo.contracts.model_inputs import ModelInputs
from serving.catalog import Catalog
from serving.edge import Edge
from tests.serving.conftest import SERVICE, Training, Write, wait_until, with_categories

pytestmark = [
    pytest.mark.xdist_group("serving"),
    pytest.mark.usefixtures("valkey"),
]
PREDICT = f"/v1/predict/{SERVICE}"
CLASSES = ("browse", "send", "track")
TENURE = "tenure_days"


def rows(inputs: ModelInputs, count: int, seed: int) -> Any:
    found = np.random.default_rng(seed).random((count, inputs.width))
    found[:, inputs.columns.index(TENURE)] *= 3_000
    return found


@pytest.fixture
def inputs(catalog: Catalog) -> ModelInputs:
    return with_categories(catalog.service_inputs(SERVICE))


@pytest.fixture
def classes(inputs: ModelInputs) -> dict[str, str | None]:
    """The files of a version of three classes, which follow the customer's tenure."""
    matrix = rows(inputs, 900, 1)
    target = (matrix[:, inputs.columns.index(TENURE)] // 1_000).astype(int)
    options = {"objective": "multiclass", "num_class": 3, "num_leaves": 7, "verbosity": -1}
    model = lightgbm.train(options | {"num_threads": 1}, lightgbm.Dataset(matrix, target), 20)
    some = rows(inputs, 5, 2)
    chances = np.asarray(model.predict(some, num_threads=1))
    answer = Answer(classes=CLASSES)
    golden = Golden.of(some, *answer.likeliest(chances), None, chances)
    return {
        "model.lgb": model.model_to_string(),
        "answer.json": answer.to_json().decode(),
        "golden.json": golden.to_json().decode(),
    }


@pytest.fixture
def money(inputs: ModelInputs) -> dict[str, str | None]:
    """The files of a version that predicts a multiple of the tenure, which stands for money."""
    matrix = rows(inputs, 900, 3)
    options = {"objective": "poisson", "num_leaves": 7, "verbosity": -1, "num_threads": 1}
    model = lightgbm.train(options, lightgbm.Dataset(matrix, 1 + matrix[:, 0]), 20)
    answer = Answer(
        exposure=Exposure(TENURE, 5.0, 90.0),
        percentiles=Percentiles((0.1, 0.9), (0.0, 1e6), ((0.0, 0.5), (3.0, 1.5))),
    )
    some = rows(inputs, 5, 4)
    some[0] = np.nan
    scores = np.asarray(model.predict(some, num_threads=1))
    golden = Golden.of(some, scores, answer.exposed(scores, some, inputs.columns), None)
    return {
        "model.lgb": model.model_to_string(),
        "answer.json": answer.to_json().decode(),
        "golden.json": golden.to_json().decode(),
    }


def serving(api: TestClient[Edge], version: str) -> None:
    def serves() -> bool:
        models = api.get("/v1/models").json()["models"]
        return any(model["version"] == version for model in models)

    wait_until(serves)


def test_chances_of_classes(
    app: Edge, register: Training, write: Write, classes: dict[str, str | None]
) -> None:
    for customer, tenure in (("c1", 2_500), ("c2", 100)):
        write("customer_profile", customer, {TENURE: tenure}, timedelta(days=1))
    version = register(files=classes, tags={"target_transform": "", "unit": "class"})
    with TestClient(app) as api:
        serving(api, version)
        body = {"customers": ["c1", "c2"], "explain": 2}
        first, second = api.post(PREDICT, json=body).json()["predictions"]
        many = api.post(PREDICT, json={"customers": ["c1"] * 20}).json()["predictions"]
    assert list(first["classes"]) == list(CLASSES)
    assert sum(first["classes"].values()) == pytest.approx(1.0)
    assert max(first["classes"], key=first["classes"].get) == "track"
    assert max(second["classes"], key=second["classes"].get) == "browse"
    assert (first["prediction"], second["prediction"]) == (2.0, 0.0)
    assert first["score"] == first["classes"]["track"]
    assert first["probability"] is None
    assert "percentiles" not in first
    # What speaks for the likeliest class of each.
    for each in (first, second):
        leading = each["explanation"][0]
        assert leading["name"] == f"customer_profile:{TENURE}"
        assert leading["contribution"] > 0
    # Many rows go another way through LightGBM.
    assert many[0]["classes"] == pytest.approx(first["classes"], rel=1e-12)


def test_money_with_percentiles(
    app: Edge, register: Training, write: Write, money: dict[str, str | None]
) -> None:
    write("customer_profile", "c1", {TENURE: 1_000}, timedelta(days=1))
    version = register(files=money, tags={"target_transform": "", "unit": "USD cents"})
    with TestClient(app) as api:
        serving(api, version)
        body = {"customers": ["c1", "nobody"]}
        known, nobody = api.post(PREDICT, json=body).json()["predictions"]
    assert known["prediction"] == pytest.approx(known["score"] * 90 * 1_005)
    assert nobody["prediction"] == pytest.approx(nobody["score"] * 90 * 5)
    share = known["prediction"] / 1e6
    assert known["percentiles"] == {
        "p10": pytest.approx(known["prediction"] * 0.5 * share),
        "p90": pytest.approx(known["prediction"] * (3.0 - 1.5 * share)),
    }
    assert "classes" not in known


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ({"answer.json": '{"classes": ["a", "b"]}'}, "2 scores a row, one a class"),
        ({"answer.json": None}, "one score a row"),
        ({"answer.json": '{"classes": ["a"'}, "register the version again"),
    ],
)
def test_files_that_do_not_fit_the_trees_are_refused(
    app: Edge,
    register: Training,
    classes: dict[str, str | None],
    spoil: dict[str, str | None],
    says: str,
) -> None:
    register(files=classes | spoil, tags={"target_transform": ""})
    with TestClient(app) as api:
        wait_until(lambda: bool(api.get("/v1/models").json()["refused"]))
        assert says in api.get("/v1/models").json()["refused"][0]["reason"]


def test_golden_rows_hold_the_chances_too(
    app: Edge, register: Training, classes: dict[str, str | None]
) -> None:
    golden = json.loads(classes["golden.json"] or "")
    golden["classes"][3][1] += 1e-6
    register(files=classes | {"golden.json": json.dumps(golden)}, tags={"target_transform": ""})
    with TestClient(app) as api:
        wait_until(lambda: bool(api.get("/v1/models").json()["refused"]))
        reason = api.get("/v1/models").json()["refused"][0]["reason"]
    assert "chance of send of row 3" in reason


def test_an_exposure_that_is_no_input_is_refused(
    app: Edge, register: Training, money: dict[str, str | None]
) -> None:
    answer = Answer(exposure=Exposure("wealth", 1.0, 1.0))
    register(
        files=money | {"answer.json": answer.to_json().decode()}, tags={"target_transform": ""}
    )
    with TestClient(app) as api:
        wait_until(lambda: bool(api.get("/v1/models").json()["refused"]))
        assert "one of the inputs" in api.get("/v1/models").json()["refused"][0]["reason"]
