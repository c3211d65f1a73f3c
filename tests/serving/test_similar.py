"""GET /v1/similar/{customer}: the nearest of one embedding version, as their vectors change."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
import redis
from litestar.testing import TestClient
from mlflow import MlflowClient

from feature_repo.contracts.embeddings import EMBEDDING_VIEW, EMBEDDING_WIDTH
from feature_repo.contracts.model_inputs import ModelInput, ModelInputs
from feature_repo.contracts.settings import Settings
from feature_repo.stores import embedding_rows
from feature_repo.stores.embedding_changes import STREAM, serve_version
from feature_repo.stores.forgotten import FILE, ForgottenFile, Tombstone, key_of
from feature_repo.stores.view_rows import write_offline_rows
from serving import similar_index
from serving.app import create_app
from serving.catalog import Catalog
from serving.edge import Edge
from serving.settings import ServingSettings
from tests.serving.conftest import NOW, wait_until
from tests.serving.embedded import AT_US, embed, without_embeddings
from tests.serving.test_bad_input import problem

pytestmark = pytest.mark.xdist_group("serving")

Api = TestClient[Edge]
FOUR: dict[str, tuple[float, ...]] = {
    "c1": (1, 0), "c2": (1, 0.1), "c3": (1, 0.5), "far": (-1, 0),
}  # fmt: skip


@pytest.fixture
def home(settings: ServingSettings, valkey: str) -> Iterator[Settings]:
    """Settings of an empty store, and nobody embedded or forgotten."""
    shared = settings.shared
    assert shared.redis == valkey
    without_embeddings(shared)
    yield shared
    without_embeddings(shared)
    (shared.offline / FILE).unlink(missing_ok=True)


@pytest.fixture
def start(
    settings: ServingSettings, catalog: Catalog, registry: MlflowClient, home: Settings
) -> Iterator[Callable[..., Api]]:
    """Start the API; wait until it knows so many customers' nearest."""
    opened: list[Api] = []

    def started(customers: int = 0) -> Api:
        client = TestClient(create_app(settings, catalog, registry, clock=lambda: NOW))
        opened.append(client.__enter__())
        wait_until(lambda: known(client) == customers)
        return client

    yield started
    for client in opened:
        client.__exit__(None, None, None)


def metric(api: Api, name: str) -> float:
    lines = api.get("/metrics").text.splitlines()
    (value,) = [line.split()[1] for line in lines if line.startswith(f"{name} ")]
    return float(value)


def known(api: Api) -> int:
    return int(metric(api, "daima_similar_customers"))


def names(api: Api, customer: str, **asked: Any) -> list[str]:
    answer = api.get(f"/v1/similar/{customer}", params=asked)
    assert answer.status_code == 200, answer.text
    return [each["customer"] for each in answer.json()["similar"]]


def test_the_nearest_with_similarity_corridor_and_segment(
    start: Callable[..., Api], home: Settings
) -> None:
    embed(home, FOUR)
    profile(home, {"c1": "GB-NG", "c2": "GB-NG", "c3": "GB-IN"}, NOW - timedelta(days=2))
    profile(home, {"c2": "US-MX"}, NOW - timedelta(days=1))
    segment(home, {"c2": "long", "c3": "brief", "far": "brief"})
    api = start(4)
    answer = api.get("/v1/similar/c1", params={"k": 2})
    body = answer.json()
    assert (body["customer"], body["embedding_version"]) == ("c1", 1)
    assert body["request_id"] == answer.headers["x-request-id"]
    first, second = body["similar"]
    assert first["similarity"] == pytest.approx(1 / math.hypot(1, 0.1), abs=1e-3)
    assert (first["customer"], first["corridor"], first["segment"]) == ("c2", "US-MX", "long")
    assert (second["customer"], second["corridor"], second["segment"]) == ("c3", "GB-IN", "brief")
    assert names(api, "c1") == ["c2", "c3", "far"]
    assert names(api, "c1", segment="brief") == ["c3", "far"]
    assert names(api, "c1", segment="brief", corridor="GB-IN") == ["c3"]
    assert names(api, "c2", corridor="GB-NG") == ["c1"]
    assert names(api, "c1", corridor="nowhere") == []


def test_who_cannot_be_answered_is_told_why(start: Callable[..., Api], home: Settings) -> None:
    api = start(0)

    def why() -> str:
        return str(problem(api.get("/v1/similar/c1"), 409)["detail"])

    # Until it has looked for the first time, it says that it has just started.
    wait_until(lambda: "no customer has been embedded" in why())
    embed(home, FOUR)
    wait_until(lambda: known(api) == 4)
    assert "embedding version 1" in problem(api.get("/v1/similar/nobody"), 404)["detail"]
    for wrong in ("0", "101", "-3", "ten", "1.5", ""):
        told = problem(api.get("/v1/similar/c1", params={"k": wrong}), 422)
        assert "from 1 to 100" in told["detail"]
        assert told["detail"].startswith("k ")
    assert len(names(api, "c1", k=100)) == 3


def test_any_id_has_its_own_neighbours(start: Callable[..., Api], home: Settings) -> None:
    embed(home, {"uk/4//2": (1, 0), "é x": (1, 0.1), "c": (0, 1)})
    api = start(3)
    assert names(api, "uk%2F4//2", k=1) == ["é x"]
    assert names(api, "%C3%A9%20x", k=1) == ["uk/4//2"]


def test_changed_vectors_are_followed(start: Callable[..., Api], home: Settings) -> None:
    embed(home, FOUR)
    api = start(4)
    embed(home, {"far": (1, 0.02), "new": (1, 0.06)}, at_us=AT_US + 1)
    wait_until(lambda: known(api) == 5)
    assert names(api, "c1") == ["far", "new", "c2", "c3"]
    # What an older session's end has to say comes late, and changes nothing.
    embed(home, {"far": (-1, 0), "mark": (0, 0, 1)}, at_us=AT_US - 1)
    wait_until(lambda: known(api) == 6)
    assert names(api, "c1", k=1) == ["far"]


def test_versions_are_never_mixed(
    start: Callable[..., Api], home: Settings, client: redis.Redis[bytes]
) -> None:
    embed(home, FOUR)
    api = start(4)
    # Another version's vectors, whose numbers mean something else, come with the stream.
    embed(home, {"c1": (1, 0), "far": (1, 0)}, version=2, at_us=AT_US + 5)
    wait_until(lambda: metric(api, "daima_similar_ignored_vectors_total") == 2)
    assert names(api, "c1") == ["c2", "c3", "far"]
    embed(home, {"c2": (0, 1)}, version=2, at_us=AT_US + 5, online=False)
    serve_version(client, 2)
    wait_until(lambda: api.get("/v1/similar/c1").json().get("embedding_version") == 2)
    assert names(api, "c1") == ["far", "c2"]  # c3 has no vector of that version
    assert "version 2" in problem(api.get("/v1/similar/c3"), 404)["detail"]
    serve_version(client, 1)
    wait_until(lambda: api.get("/v1/similar/c1").json()["embedding_version"] == 1)
    assert names(api, "c1") == ["c2", "c3", "far"]


def test_whoever_asks_is_answered_while_another_index_is_built(
    start: Callable[..., Api], home: Settings, client: redis.Redis[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    embed(home, FOUR)
    api = start(4)
    reading, go_on = threading.Event(), threading.Event()
    read = embedding_rows.latest_embeddings

    def slowly(settings: Settings, version: int) -> pl.DataFrame:
        reading.set()
        assert go_on.wait(30)
        return read(settings, version)

    monkeypatch.setattr(similar_index, "latest_embeddings", slowly)
    embed(home, {"c1": (0, 1), "c2": (1, 0)}, version=2, online=False)
    serve_version(client, 2)
    assert reading.wait(30)
    body = api.get("/v1/similar/c1").json()
    assert (body["embedding_version"], len(body["similar"])) == (1, 3)
    # What comes while it is built is in it too.
    embed(home, {"late": (0, 1)}, version=2)
    go_on.set()
    wait_until(lambda: known(api) == 3)
    assert names(api, "c1") == ["late", "c2"]


def test_the_forgotten_leave_the_index(start: Callable[..., Api], home: Settings) -> None:
    embed(home, FOUR)
    api = start(4)
    ForgottenFile(home.offline).change(
        lambda found: found.update({key_of("c2"): Tombstone(AT_US + 10)})
    )
    wait_until(lambda: known(api) == 3)
    assert names(api, "c1") == ["c3", "far"]
    problem(api.get("/v1/similar/c2"), 404)
    # A vector of before is not taken in again; one of a later session is.
    embed(home, {"c2": (1, 0.1), "mark": (0, 1)}, at_us=AT_US + 9)
    wait_until(lambda: known(api) == 4)
    assert "c2" not in names(api, "c1")
    embed(home, {"c2": (1, 0.1)}, at_us=AT_US + 11)
    wait_until(lambda: known(api) == 5)
    assert names(api, "c1", k=1) == ["c2"]


def test_a_gap_in_the_stream_is_made_up_for(
    start: Callable[..., Api], home: Settings, client: redis.Redis[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    embed(home, FOUR)
    api = start(4)
    with monkeypatch.context() as patch:
        patch.setattr(similar_index, "changes_after", lambda *_: [])  # it does not get there
        embed(home, {"new": (1, 0.01)})
        client.xtrim(STREAM, maxlen=0, approximate=False)
    wait_until(lambda: known(api) == 5)
    assert names(api, "c1", k=1) == ["new"]


def test_labels_are_read_again_when_their_tables_change(
    start: Callable[..., Api], home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(similar_index, "_LABELS_EVERY", 1)
    embed(home, FOUR)
    api = start(4)
    assert names(api, "c1", segment="long") == []
    segment(home, {"c3": "long"})
    wait_until(lambda: names(api, "c1", segment="long") == ["c3"])


def test_profiles_features_and_models_read_the_vector(
    start: Callable[..., Api], home: Settings, catalog: Catalog
) -> None:
    embed(home, {"c1": (3, 4)})
    api = start(1)
    found = api.get("/v1/profile/c1").json()
    assert found["embedding"][:3] == pytest.approx([0.6, 0.8, 0])
    assert len(found["embedding"]) == EMBEDDING_WIDTH
    assert found["features"][f"{EMBEDDING_VIEW}:embedding_version"] == 1
    assert found["statuses"][f"{EMBEDDING_VIEW}:embedding"] == "PRESENT"
    assert not any("state" in ref for ref in found["features"])
    refs = [f"{EMBEDDING_VIEW}:{name}" for name in ("embedding", "embedding_updated_at")]
    rows = api.post("/v1/features", json={"features": refs, "customers": ["c1", "no"]}).json()
    one, nobody = (row["values"] for row in rows["rows"])
    assert one[refs[0]][:2] == pytest.approx([0.6, 0.8])
    assert one[refs[1]] == AT_US
    assert nobody[refs[0]] is None
    # The encoder's state is bytes, which nobody is fed.
    problem(
        api.post("/v1/features", json={"features": ["customer_embedding_state:embedding_state"],
                                       "customer": "c1"}), 400,
    )  # fmt: skip
    dtype = catalog.views[EMBEDDING_VIEW].features["embedding"]
    inputs = ModelInputs(
        "s", (ModelInput(EMBEDDING_VIEW, "embedding", dtype, length=EMBEDDING_WIDTH),)
    )
    matrix = inputs.rows([one, nobody])
    assert matrix.shape == (2, EMBEDDING_WIDTH)
    assert matrix[0, :2] == pytest.approx([0.6, 0.8])
    assert not (matrix[1] == matrix[1]).any()  # missing throughout


def test_a_store_that_is_away_leaves_the_index_as_it_is(
    settings: ServingSettings, home: Settings
) -> None:
    embed(home, FOUR)
    index = similar_index.SimilarIndex(replace(home, redis="127.0.0.1:1"))
    index.start()
    wait_until(lambda: "127.0.0.1:1" in index.why_not)
    index.stop()
    assert index.version is None


def profile(home: Settings, corridors: dict[str, str], at: datetime) -> None:
    rows = pl.DataFrame(
        {
            "customer_id": list(corridors),
            "tenure_days": 1,
            "age_band": "25-34",
            "home_country": "GB",
            "main_corridor": list(corridors.values()),
            "preferred_channel": "app",
            "kyc_level": 2,
            "recipient_count": 1,
        }
    )
    write_offline_rows(home, "customer_profile", rows, at)


def segment(home: Settings, segments: dict[str, str]) -> None:
    rows = pl.DataFrame(
        {
            "customer_id": list(segments),
            "segment": list(segments.values()),
            "duration_position": 0.5,
            "segment_sessions": 3,
        }
    )
    write_offline_rows(home, "customer_segment", rows, datetime.now(UTC))
