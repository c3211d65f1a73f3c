"""What a home does by itself: golden rows, kept versions, roll-backs while the registry is away."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from litestar.testing import TestClient
from mlflow import MlflowClient

from feature_repo.contracts.model_files import Calibration, Golden
from feature_repo.contracts.model_inputs import ModelInputs
from serving import release
from serving.bundles import SPARE, BundleStore, bundles_at
from serving.catalog import Catalog
from serving.champions import Champions, open_champions
from serving.edge import Edge
from serving.online import OnlineReader
from serving.orders import Order, Orders, orders_at
from serving.routing import CHALLENGER, Slot
from serving.settings import CHAMPION, ServingSettings
from serving.store_connection import StoreConnection
from tests.serving.conftest import NOW, SERVICE, Training, golden_of, wait_until, with_categories
from tests.serving.test_champions import FlakyRegistry

pytestmark = pytest.mark.xdist_group("serving")
PLACE = Slot(SERVICE, CHAMPION)
Booster = Callable[[ModelInputs, int], str]


@pytest.fixture
def flaky(registry: MlflowClient) -> FlakyRegistry:
    return FlakyRegistry(registry)


@pytest.fixture
def start(
    settings: ServingSettings, catalog: Catalog, flaky: FlakyRegistry
) -> Callable[[], Champions]:
    """A function that starts the models of the home anew."""

    def begin() -> Champions:
        reader = OnlineReader(catalog, StoreConnection(settings))
        return open_champions(settings, reader, flaky, lambda: NOW)

    return begin


def order(leaves: str, to: str | None, alias: str = CHAMPION) -> Order:
    return Order(SERVICE, alias, (leaves,), to, "ana", "errors since noon", NOW.isoformat())


@pytest.mark.parametrize("output", ["scores", "predictions"])
def test_a_version_that_gives_other_numbers_than_at_training_is_refused(
    start: Callable[[], Champions],
    register: Training,
    booster: Booster,
    catalog: Catalog,
    output: str,
) -> None:
    register()
    text = booster(with_categories(catalog.service_inputs(SERVICE)), 2)
    golden = json.loads(golden_of(text))
    golden[output][2] *= 1 + 3e-9
    register(seed=2, files={"golden.json": json.dumps(golden)})
    champions = start()
    champions.refresh()
    line = champions.line
    assert line.models == {}, "nothing served before"
    assert f"{output[:-1]} of row 2 of the golden rows" in line.refused[PLACE].reason
    golden[output][2] /= 1 + 2.9e-9
    register(seed=2, files={"golden.json": json.dumps(golden)})
    champions.refresh()
    assert champions.get(SERVICE).version == "3", "a difference in the last bits is none"
    assert champions.get(SERVICE).golden_rows == 4


def test_a_foreign_version_without_golden_rows_serves_and_v1_models_says_so(
    app: Edge, register: Training, caplog: pytest.LogCaptureFixture
) -> None:
    """Training always writes them (`tests/training`): only what others registered lacks them."""
    register(files={"golden.json": None})
    with TestClient(app) as api:
        wait_until(lambda: bool(api.get("/v1/models").json()["models"]))
        (model,) = api.get("/v1/models").json()["models"]
        assert (model["version"], model["golden_rows"]) == ("1", 0)
    assert "it serves unverified" in caplog.text


def test_wrong_golden_rows_leave_the_former_champion_serving(
    start: Callable[[], Champions], register: Training
) -> None:
    register()
    champions = start()
    champions.refresh()
    assert champions.get(SERVICE).golden_rows == 4
    register(seed=2, files={"golden.json": '{"rows": [[1.0]], "scores": [1], "predictions": [1]}'})
    champions.refresh()
    assert champions.get(SERVICE).version == "1"
    assert "is 1: expected" in champions.line.refused[PLACE].reason
    register(seed=2, files={"golden.json": '{"rows": []}'})
    champions.refresh()
    assert "golden" in champions.line.refused[PLACE].reason


def test_a_calibrated_version_gives_probabilities(
    start: Callable[[], Champions], register: Training, booster: Booster, catalog: Catalog
) -> None:
    text = booster(with_categories(catalog.service_inputs(SERVICE)), 1)
    curve = Calibration("isotonic", (0.0, 1.0, 4.0), (0.0, 0.2, 1.0))
    plain = Golden.from_json(golden_of(text))
    chances = curve.probability(np.array(plain.scores))
    golden = Golden(plain.rows, plain.scores, plain.predictions, tuple(chances.tolist()))
    calibration = curve.to_json().decode()
    register(files={"calibration.json": calibration, "golden.json": golden.to_json().decode()})
    champions = start()
    champions.refresh()
    scored = champions.get(SERVICE).score(plain.matrix)
    assert scored.probabilities is not None
    assert scored.probabilities.tolist() == curve.probability(scored.scores).tolist()
    register(files={"calibration.json": calibration, "golden.json": plain.to_json().decode()})
    register(alias=None)
    champions.refresh()
    assert "probabilities where" in champions.line.refused[PLACE].reason


def test_a_champion_is_rolled_back_while_the_registry_is_away_and_never_comes_back(
    start: Callable[[], Champions],
    register: Training,
    registry: MlflowClient,
    flaky: FlakyRegistry,
    settings: ServingSettings,
) -> None:
    register()
    register(seed=2, alias=None)
    release.promote(SERVICE, 2, client=registry, why="better")
    champions = start()
    champions.refresh()
    assert champions.get(SERVICE).version == "2"
    flaky.down = True
    orders = Orders(orders_at(settings.shared))
    orders.give(order("2", "1"))
    champions.refresh()
    assert champions.get(SERVICE).version == "1", "off the disk: it was fetched as a way back"
    champions = start()
    champions.restore()
    assert champions.get(SERVICE).version == "1", "also after a restart"
    flaky.down = False
    champions.refresh()
    assert champions.get(SERVICE).version == "1"
    assert registry.get_registered_model(SERVICE).aliases[CHAMPION] in {"1", 1}
    assert orders.open() == []
    tags = registry.get_model_version(SERVICE, "2").tags
    assert (tags["rolled_back_by"], tags["rolled_back_why"]) == ("ana", "errors since noon")
    release.promote(SERVICE, 2, client=registry, why="mended")
    champions.refresh()
    assert champions.get(SERVICE).version == "2", "a later decision counts"


def test_a_rollback_is_obeyed_at_once_though_the_registry_hangs(
    start: Callable[[], Champions],
    register: Training,
    registry: MlflowClient,
    flaky: FlakyRegistry,
    settings: ServingSettings,
) -> None:
    register()
    register(seed=2, alias=None)
    release.promote(SERVICE, 2, client=registry)
    champions = start()
    champions.refresh()
    Orders(orders_at(settings.shared)).give(order("2", "1"))
    while_asking: list[str] = []

    def hang(*_: Any, **__: Any) -> Any:
        while_asking.append(champions.get(SERVICE).version)
        raise TimeoutError("no answer in 10 s")

    vars(flaky)["search_model_versions"] = hang
    champions.refresh()
    assert while_asking[0] == "1"


def test_an_order_that_cannot_be_carried_out_holds_here_and_says_so(
    start: Callable[[], Champions],
    register: Training,
    settings: ServingSettings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    register()
    champions = start()
    champions.refresh()
    orders = Orders(orders_at(settings.shared))
    orders.give(order("1", "9"))
    for _ in range(3):
        champions.refresh()
    assert champions.get(SERVICE).version == "1"
    assert champions.line.refused[PLACE].version == "9"
    assert len([line for line in caplog.messages if "holds on this machine alone" in line]) == 1
    orders.drop(SERVICE, CHAMPION)
    champions.refresh()
    assert champions.line.refused == {}


def test_an_order_on_a_model_that_is_gone_is_done(
    start: Callable[[], Champions], register: Training, settings: ServingSettings
) -> None:
    register()
    orders = Orders(orders_at(settings.shared))
    orders.give(Order("gone", CHALLENGER, ("1",), None, "ana", "why", NOW.isoformat()))
    start().refresh()
    assert orders.open() == []


def test_a_model_made_anew_under_its_name_is_loaded_anew(
    start: Callable[[], Champions], register: Training, registry: MlflowClient
) -> None:
    register()
    champions = start()
    champions.refresh()
    matrix = np.full((1, champions.get(SERVICE).inputs.width), np.nan)
    former = champions.get(SERVICE).score(matrix)[0][0]
    registry.delete_registered_model(SERVICE)
    register(seed=7)
    champions.refresh()
    assert champions.get(SERVICE).version == "1"
    assert champions.get(SERVICE).score(matrix)[0][0] != former


def test_an_alias_moved_to_a_version_that_is_loaded_needs_no_download(
    start: Callable[[], Champions],
    register: Training,
    registry: MlflowClient,
    flaky: FlakyRegistry,
) -> None:
    register()
    register(seed=2, alias=None)
    release.split(SERVICE, 2, 0.1, client=registry)
    champions = start()
    champions.refresh()
    downloads = flaky.downloads
    release.promote(SERVICE, 2, client=registry)
    champions.refresh()
    assert (champions.get(SERVICE).version, champions.get(SERVICE).alias) == ("2", CHAMPION)
    assert champions.line.challengers == {}, "it is a challenger no longer"
    assert flaky.downloads == downloads
    start().refresh()
    assert flaky.downloads == downloads, "nor does a restart"


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("challenger_share", "most"),
        ("challenger_share", "1.5"),
        ("challenger_share", "nan"),
        ("challenger_max_error_rate", "-1"),
        ("challenger_max_p99_ms", "soon"),
    ],
)
def test_a_challenger_whose_share_is_none_is_refused_and_the_champion_serves(
    start: Callable[[], Champions],
    register: Training,
    registry: MlflowClient,
    tag: str,
    value: str,
) -> None:
    register()
    register(seed=2, alias=None)
    release.split(SERVICE, 2, 0.1, client=registry)
    registry.set_registered_model_tag(SERVICE, tag, value)
    champions = start()
    champions.refresh()
    assert champions.get(SERVICE).version == "1"
    assert champions.line.challengers == {}
    assert tag in champions.line.refused[Slot(SERVICE, CHALLENGER)].reason


def test_only_the_latest_spare_versions_are_kept(
    start: Callable[[], Champions], register: Training, settings: ServingSettings
) -> None:
    champions = start()
    for seed in range(1, SPARE + 4):
        register(seed=seed)
        champions.refresh()
    bundles = BundleStore(bundles_at(settings.shared))
    kept = [version for version in range(1, SPARE + 4) if bundles.find(SERVICE, str(version))]
    assert kept == list(range(3, SPARE + 4))


def test_a_full_disk_stops_nothing(
    start: Callable[[], Champions],
    register: Training,
    settings: ServingSettings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings.shared.home.joinpath("models").write_text("no folder")
    register()
    champions = start()
    champions.refresh()
    assert champions.get(SERVICE).version == "1"
    assert "cannot be kept" in caplog.text
    Path(settings.shared.home, "models").unlink()


def test_the_watch_obeys_an_order_before_it_asks_again(
    settings: ServingSettings,
    catalog: Catalog,
    register: Training,
    registry: MlflowClient,
) -> None:
    register()
    register(seed=2, alias=None)
    release.promote(SERVICE, 2, client=registry)
    reader = OnlineReader(catalog, StoreConnection(settings))
    champions = open_champions(settings, reader, registry, lambda: NOW)
    champions._every = timedelta(hours=1)
    champions.start()
    try:
        wait_until(lambda: SERVICE in champions.line.models)
        assert champions.get(SERVICE).version == "2", "an hour until it asks the registry again"
        Orders(orders_at(settings.shared)).give(order("2", "1"))
        wait_until(lambda: champions.get(SERVICE).version == "1")
    finally:
        champions.stop()
