"""Models come, change and are refused while the API runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import lightgbm
import msgspec
import numpy as np
import pytest
from litestar import Litestar
from litestar.testing import TestClient
from mlflow import MlflowClient

from feature_repo.contracts.model_inputs import ModelInputs
from serving.app import create_app
from serving.catalog import Catalog
from serving.champions import Champions, UnknownModelError
from serving.loading import ModelLoader
from serving.online import OnlineReader
from serving.routing import Slot
from serving.settings import CHAMPION, ServingSettings
from serving.store_connection import StoreConnection
from tests.serving.conftest import NOW, SERVICE, Training, wait_until, with_categories

pytestmark = pytest.mark.xdist_group("serving")

Api = TestClient[Any]
PLACE = Slot(SERVICE, CHAMPION)
PREDICT = f"/v1/predict/{SERVICE}"


@pytest.fixture
def own_api(register: Training, app: Litestar) -> Iterator[Api]:
    """The API with a champion that the test may replace."""
    register()
    with TestClient(app) as client:
        wait_until(lambda: client.get("/health/ready").status_code == 200)
        yield client


def served(api: Api) -> dict[str, str]:
    """The champions."""
    models = api.get("/v1/models").json()["models"]
    return {model["name"]: model["version"] for model in models if model["alias"] == CHAMPION}


def test_a_model_registered_after_the_start_serves_soon(app: Litestar, register: Training) -> None:
    with TestClient(app) as api:
        wait_until(lambda: app_has_asked(api))
        answer = api.get("/health/ready")
        assert answer.status_code == 503
        waiting: list[str] = answer.json()["not_serving"]
        assert SERVICE in waiting
        assert "retraining flow" in answer.json()["missing"][0]
        answer = api.post(PREDICT, json={"customer": "c1"})
        assert answer.status_code == 404
        assert "register one and promote it to @champion" in answer.json()["detail"]
        register(alias="challenger")
        register(seed=2)
        wait_until(lambda: served(api) == {SERVICE: "2"})
        assert api.post(PREDICT, json={"customer": "c1"}).json()["version"] == "2"
        ready = api.get("/health/ready").json()
        assert ready == {
            "ready": True,
            "missing": [],
            "models": {SERVICE: "2"},
            "not_serving": [name for name in waiting if name != SERVICE],
        }


def app_has_asked(api: Api) -> bool:
    return api.get("/v1/models").json()["registry_error"] is None


def test_a_new_champion_replaces_the_former_and_a_move_back_restores_it(
    own_api: Api, register: Training, registry: MlflowClient
) -> None:
    body = {"customers": ["c1"]}
    first = own_api.post(PREDICT, json=body).json()["predictions"][0]["score"]
    register(seed=5)
    wait_until(lambda: served(own_api) == {SERVICE: "2"})
    second = own_api.post(PREDICT, json=body).json()
    assert second["version"] == "2"
    assert second["predictions"][0]["score"] != first
    registry.set_registered_model_alias(SERVICE, "champion", "1")
    wait_until(lambda: served(own_api) == {SERVICE: "1"})
    assert own_api.post(PREDICT, json=body).json()["predictions"][0]["score"] == first
    registry.delete_registered_model_alias(SERVICE, "champion")
    wait_until(lambda: served(own_api) == {})


def test_a_version_that_does_not_fit_leaves_the_former_serving(
    own_api: Api, register: Training, catalog: Catalog
) -> None:
    offered = catalog.service_inputs(SERVICE)
    register(inputs=ModelInputs(SERVICE, offered.inputs[1:]))
    wait_until(lambda: bool(own_api.get("/v1/models").json()["refused"]))
    models = own_api.get("/v1/models").json()
    (refused,) = models["refused"]
    assert (refused["name"], refused["version"]) == (SERVICE, "2")
    assert "customer_session:session_start_hour (Int64)" in refused["reason"]
    assert [model["version"] for model in models["models"]] == ["1"]
    assert own_api.post(PREDICT, json={"customer": "c1"}).json()["version"] == "1"
    assert own_api.get("/health/ready").status_code == 200
    register(seed=3)
    wait_until(lambda: served(own_api) == {SERVICE: "3"})
    assert own_api.get("/v1/models").json()["refused"] == []


def test_a_refused_model_says_why_when_asked(app: Litestar, register: Training) -> None:
    register(files={"model_inputs.json": None})
    with TestClient(app) as api:
        wait_until(lambda: bool(api.get("/v1/models").json()["refused"]))
        answer = api.post(PREDICT, json={"customer": "c1"})
    assert answer.status_code == 404
    assert "version 1 was refused" in answer.json()["detail"]
    assert "model_inputs.json" in answer.json()["detail"]


class FlakyRegistry:
    """An MLflow client that can be switched off."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client
        self.down = False
        self.downloads = 0

    def __getattr__(self, name: str) -> Any:
        if self.down:
            raise ConnectionError("no route to registry")
        self.downloads += name == "get_model_version_download_uri"
        return getattr(self._client, name)


@pytest.fixture
def flaky(registry: MlflowClient) -> FlakyRegistry:
    return FlakyRegistry(registry)


class Clock:
    """A present that the test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def applied() -> list[Catalog]:
    """Catalogues that `feast apply` has written since the last look, latest last."""
    return []


@pytest.fixture
def champions(
    settings: ServingSettings,
    catalog: Catalog,
    flaky: FlakyRegistry,
    clock: Clock,
    applied: list[Catalog],
) -> Champions:
    reader = OnlineReader(catalog, StoreConnection(settings))
    loader = ModelLoader(flaky, reader, "champion")
    return Champions(
        loader, timedelta(seconds=10), clock, lambda: applied.pop() if applied else None
    )


def test_a_registry_that_is_away_stops_nothing(
    champions: Champions, flaky: FlakyRegistry, register: Training
) -> None:
    flaky.down = True
    champions.refresh()
    with pytest.raises(UnknownModelError, match="registry does not answer"):
        champions.get(SERVICE)
    flaky.down = False
    register()
    champions.refresh()
    model = champions.get(SERVICE)
    assert (model.version, model.loaded_at) == ("1", NOW)
    flaky.down = True
    champions.refresh()
    assert champions.get(SERVICE) is model
    assert champions.line.registry_error == "ConnectionError: no route to registry"
    flaky.down = False
    champions.refresh()
    assert champions.get(SERVICE) is model
    assert champions.line.registry_error is None


def test_a_version_is_downloaded_once_and_a_refused_one_again_each_minute(
    champions: Champions,
    flaky: FlakyRegistry,
    register: Training,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    register()
    register("broken", files={"model.lgb": "not a tree"})
    for _ in range(3):
        champions.refresh()
    assert flaky.downloads == 2
    clock.now += timedelta(seconds=60)
    for _ in range(3):
        champions.refresh()
    assert flaky.downloads == 3
    refusals = [line for line in caplog.messages if "refused" in line]
    assert len(refusals) == 1, "one reason, one line"


def test_a_version_whose_tag_was_mended_serves_without_a_restart(
    champions: Champions, register: Training, registry: MlflowClient, clock: Clock
) -> None:
    register(tags={"target_transform": "cube"})
    champions.refresh()
    assert "mend the tag" in champions.line.refused[PLACE].reason
    registry.set_model_version_tag(SERVICE, "1", "target_transform", "log1p")
    clock.now += timedelta(seconds=60)
    champions.refresh()
    assert champions.get(SERVICE).version == "1"
    assert champions.line.refused == {}


def with_new_feature(catalog: Catalog) -> Catalog:
    """What `feast apply` makes of one more feature in the service."""
    profile = catalog.views["customer_profile"]
    wider = replace(profile, features=profile.features | {"nickname_length": "Int64"})
    refs = (*catalog.services[SERVICE], "customer_profile:nickname_length")
    return replace(
        catalog,
        views=catalog.views | {"customer_profile": wider},
        services=catalog.services | {SERVICE: refs},
    )


def test_a_champion_trained_on_newly_applied_features_serves_without_a_restart(
    champions: Champions, register: Training, catalog: Catalog, applied: list[Catalog]
) -> None:
    register()
    champions.refresh()
    later = with_new_feature(catalog)
    register(inputs=with_categories(later.service_inputs(SERVICE)))
    champions.refresh()
    assert champions.get(SERVICE).version == "1"
    assert "nickname_length" in champions.line.refused[PLACE].reason
    applied.append(later)
    champions.refresh()
    assert champions.get(SERVICE).version == "2"
    assert "customer_profile:nickname_length" in champions.get(SERVICE).plan.refs
    assert champions.line.refused == {}


def test_a_champion_whose_features_changed_serves_on_and_says_so(
    champions: Champions, register: Training, catalog: Catalog, applied: list[Catalog]
) -> None:
    register()
    champions.refresh()
    applied.append(with_new_feature(catalog))
    for _ in range(2):
        champions.refresh()
        assert champions.get(SERVICE).version == "1"
        assert "nickname_length" in champions.line.refused[PLACE].reason
    applied.append(catalog)
    champions.refresh()
    assert champions.get(SERVICE).version == "1"
    assert champions.line.refused == {}


def test_a_feast_apply_reaches_the_running_api(
    settings: ServingSettings, catalog: Catalog, registry: MlflowClient, register: Training
) -> None:
    services = {name: refs for name, refs in catalog.services.items() if name != SERVICE}
    former = replace(catalog, services=services)
    register()
    # The home's registry file is ahead of the catalogue that this app starts with.
    with TestClient(create_app(settings, former, registry, clock=lambda: NOW)) as api:
        wait_until(lambda: served(api) == {SERVICE: "1"})
        body = {"feature_service": SERVICE, "customer": "c1"}
        assert api.post("/v1/features", json=body).status_code == 200


def test_a_version_that_could_not_be_fetched_is_tried_again(
    champions: Champions, register: Training, registry: MlflowClient, tmp_path: Any
) -> None:
    register()
    (folder,) = [path for path in tmp_path.iterdir() if path.name.startswith(SERVICE)]
    hidden = folder.rename(tmp_path / "hidden")
    champions.refresh()
    assert champions.line.refused[PLACE].retry_at == NOW
    hidden.rename(folder)
    champions.refresh()
    assert champions.get(SERVICE).version == "1"
    assert champions.line.refused == {}


def fingerprints(catalog: Catalog) -> dict[str, ModelInputs]:
    """Inputs that differ from the service's in order, in a dtype, in the service's name."""
    offered = catalog.service_inputs(SERVICE).inputs
    other = msgspec.structs.replace(offered[0], dtype="Float64")
    return {
        "order": ModelInputs(SERVICE, offered[::-1]),
        "dtype": ModelInputs(SERVICE, (other, *offered[1:])),
        "service": ModelInputs("churn", offered),
    }


@pytest.mark.parametrize("difference", ["order", "dtype", "service"])
def test_inputs_that_are_not_the_services_are_refused(
    champions: Champions, register: Training, catalog: Catalog, difference: str
) -> None:
    register(inputs=fingerprints(catalog)[difference])
    champions.refresh()
    reason = champions.line.refused[PLACE].reason
    assert "features of Feast service session_duration" in reason or "feature_service" in reason


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tags": {"schema_fingerprint": "0123"}}, "schema_fingerprint of session_duration"),
        ({"tags": {"target_transform": "cube"}}, "one of ['', 'log1p']"),
        ({"files": {"model_inputs.json": "{}"}}, "ordered list of inputs"),
        ({"files": {"model.lgb": None}}, "LightGBM text"),
        ({"files": {"model.lgb": "not a tree"}}, "LightGBM text"),
        (
            {"files": {"MLmodel": '{"flavors": {"lightgbm": {"data": "model.pkl"}}}'}},
            "LightGBM text",
        ),
    ],
)
def test_an_incomplete_version_is_refused(
    champions: Champions, register: Training, change: Any, says: str
) -> None:
    register(**change)
    champions.refresh()
    assert says in champions.line.refused[PLACE].reason
    assert champions.line.models == {}


def test_a_model_of_another_width_is_refused(
    champions: Champions, register: Training, catalog: Catalog, booster: Any
) -> None:
    narrow = ModelInputs(SERVICE, catalog.service_inputs(SERVICE).inputs[:-1])
    register(files={"model.lgb": booster(narrow, 1)})
    champions.refresh()
    assert "train it again" in champions.line.refused[PLACE].reason


def test_the_app_starts_without_registry_and_store(
    settings: ServingSettings, catalog: Catalog, flaky: FlakyRegistry
) -> None:
    flaky.down = True
    app = create_app(settings, catalog, flaky, clock=lambda: NOW)
    with TestClient(app) as api:
        wait_until(lambda: not app_has_asked(api))
        assert api.get("/health/live").status_code == 200
        assert api.get("/health/ready").status_code == 503


def test_a_prediction_back_transformed_is_never_negative(
    own_api: Api, register: Training, catalog: Catalog
) -> None:
    count = len(catalog.service_inputs(SERVICE).inputs)
    random = np.random.default_rng(0)
    options = {"objective": "regression", "verbosity": -1, "num_threads": 1}
    data = lightgbm.Dataset(random.normal(size=(100, count)), np.full(100, -0.5))
    files = {"model.lgb": lightgbm.train(options, data, 1).model_to_string()}
    register("undershoot", files=files)
    register("plain", files=files, tags={"target_transform": ""})
    wait_until(lambda: len(served(own_api)) == 3)
    rows = {
        name: own_api.post(f"/v1/predict/{name}", json={"customer": "c1"}).json()["predictions"][0]
        for name in ("undershoot", "plain")
    }
    assert rows["undershoot"]["score"] == pytest.approx(-0.5)
    assert rows["undershoot"]["prediction"] == 0.0
    assert rows["plain"]["prediction"] == rows["plain"]["score"] == pytest.approx(-0.5)
