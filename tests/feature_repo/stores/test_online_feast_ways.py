"""Feast's own commands, its server and its SDK, over our store: through `online_store: type:`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from feast import FeatureStore
from feast.cli.cli import cli
from feast.data_source import PushMode
from feast.feature_server import get_app

from tests.feature_repo.stores.both_stores import OURS, STOCK, statuses

pytestmark = [
    # ibis says this to DuckDB on Feast's way to the rows.
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning"),
    pytest.mark.xdist_group("feast ways"),
]
NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = timedelta(hours=1)
REFS = ["spending:total", "spending:home"]
DEFINITIONS = """
from datetime import timedelta
from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType
from feast.types import Int64, String

customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
rows = FileSource(
    name="rows", path={path!r}, timestamp_field="at", created_timestamp_column="created"
)
spending = FeatureView(
    name="spending", entities=[customer], ttl=timedelta(days=1),
    schema=[Field(name="total", dtype=Int64), Field(name="home", dtype=String)],
    source=PushSource(name="spending_push", batch_source=rows),
)
service = FeatureService(name="all_spending", features=[spending])
"""
EXTRA = """
extra = FeatureView(
    name="extra", entities=[customer], ttl=timedelta(days=1),
    schema=[Field(name="more", dtype=Int64)], source=rows,
)
"""
Feast = Callable[..., str]


def rows(*rows: tuple[str, int, datetime]) -> pd.DataFrame:
    """Totals of customers at instants."""
    return pd.DataFrame(
        {
            "customer_id": [customer for customer, _, _ in rows],
            "total": [total for _, total, _ in rows],
            "home": [f"of {customer}" for customer, _, _ in rows],
            "more": 7,
            "at": [at for _, _, at in rows],
            "created": [at for _, _, at in rows],
        }
    )


def write_source(folder: Path, frame: pd.DataFrame) -> None:
    frame.to_parquet(folder / "rows.parquet", coerce_timestamps="us", index=False)


@pytest.fixture(params=["local", "feature_repo.stores.provider.ColumnarProvider"])
def repo(
    request: pytest.FixtureRequest, tmp_path: Path, valkey: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A folder as a user of Feast has it."""
    document = {
        "project": "ways",
        "provider": request.param,
        "registry": str(tmp_path / "registry.db"),
        "online_store": {"type": OURS, "connection_string": f"redis://{valkey}"},
        "offline_store": {"type": "duckdb"},
        "entity_key_serialization_version": 3,
    }
    (tmp_path / "feature_store.yaml").write_text(yaml.safe_dump(document))
    plain = {"type": STOCK, "connection_string": valkey}
    (tmp_path / "stock").mkdir()
    (tmp_path / "stock" / "feature_store.yaml").write_text(
        yaml.safe_dump(document | {"provider": "local", "online_store": plain})
    )
    define(tmp_path, EXTRA)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield tmp_path
    sys.modules.pop("spending_definitions", None)


def define(folder: Path, extra: str = "") -> None:
    text = DEFINITIONS.format(path=str(folder / "rows.parquet"))
    (folder / "spending_definitions.py").write_text(text + extra)
    sys.modules.pop("spending_definitions", None)


@pytest.fixture
def feast(repo: Path) -> Feast:
    """Run a command of Feast's; its output."""

    def run(*arguments: str) -> str:
        answer = CliRunner().invoke(cli, ["--chdir", str(repo), *arguments])
        if answer.exception is not None:
            raise answer.exception
        return answer.output

    return run


def read(store: FeatureStore, *customers: str) -> Any:
    return store.get_online_features(REFS, [{"customer_id": name} for name in customers])


def instant(at: datetime) -> str:
    return at.replace(tzinfo=None).isoformat()


def test_commands(repo: Path, feast: Feast, client: Any) -> None:
    write_source(repo, rows(("ana", 1, NOW - 9 * HOUR), ("ana", 2, NOW - 5 * HOUR),
                            ("ben", 3, NOW - 30 * HOUR)))  # fmt: skip
    feast("apply")
    store = FeatureStore(repo_path=str(repo))
    feast("materialize", instant(NOW - 48 * HOUR), instant(NOW - 4 * HOUR))
    answer = read(store, "ana", "ben", "cara")
    assert answer.to_dict()["total"] == [2, None, None]
    assert statuses(answer)["total"] == ["PRESENT", "OUTSIDE_MAX_AGE", "NOT_FOUND"]
    # What has been materialised is the stock store's to read.
    stock = FeatureStore(repo_path=str(repo / "stock"))
    assert read(stock, "ana").to_dict() == read(store, "ana").to_dict()

    write_source(repo, rows(("ana", 1, NOW - 9 * HOUR), ("ana", 4, NOW - 2 * HOUR),
                            ("cara", 5, NOW - 3 * HOUR)))  # fmt: skip
    feast("materialize-incremental", instant(NOW))
    assert read(store, "ana", "cara").to_dict()["total"] == [4, 5]
    # An older stretch once more: nothing goes back, and a correction of the newest row lands.
    feast("materialize", instant(NOW - 48 * HOUR), instant(NOW - 4 * HOUR))
    assert read(store, "ana").to_dict()["total"] == [4]
    write_source(repo, rows(("ana", 44, NOW - 2 * HOUR)))
    feast("materialize", instant(NOW - 3 * HOUR), instant(NOW))
    assert read(store, "ana").to_dict()["total"] == [44]

    extra = store.get_online_features(["extra:more"], [{"customer_id": "ana"}])
    assert extra.to_dict()["more"] == [7]
    define(repo)  # without the other view, whose values go
    feast("apply")
    fields = {field for key in client.scan_iter() for field in client.hkeys(key)}
    assert fields
    assert not any(b"extra" in field for field in fields)
    assert len(fields) == 2 + len([b"_ts:spending", b"_created:spending"])
    feast("teardown")
    assert client.dbsize() == 0


def test_pushes_through_the_sdk(repo: Path, feast: Feast) -> None:
    feast("apply")
    store = FeatureStore(repo_path=str(repo))
    store.push("spending_push", rows(("ana", 1, NOW)), to=PushMode.ONLINE)
    store.push("spending_push", rows(("ana", 0, NOW - HOUR)), to=PushMode.ONLINE)
    assert read(store, "ana").to_dict()["total"] == [1]

    async def push() -> Any:
        await store.push_async("spending_push", rows(("ana", 2, NOW)), to=PushMode.ONLINE)
        answer = await store.get_online_features_async(
            store.get_feature_service("all_spending"), [{"customer_id": "ana"}]
        )
        await store._get_provider().online_store.close()
        return answer.to_dict()

    assert asyncio.run(push()) == {"customer_id": ["ana"], "total": [2], "home": ["of ana"]}


def test_feast_serve(repo: Path, feast: Feast) -> None:
    feast("apply")
    frame = rows(("ana", 1, NOW)).assign(at=instant(NOW), created=instant(NOW))
    pushed: dict[str, Any] = {"push_source_name": "spending_push", "df": frame.to_dict("list")}
    pushed["to"] = "online"
    entities = {"customer_id": ["ana", "nobody"]}
    written = {"feature_view_name": "spending", "df": pushed["df"] | {"total": [2]}}

    async def converse() -> None:
        app = get_app(FeatureStore(repo_path=str(repo)))
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://feast") as client,
        ):

            async def post(path: str, **body: Any) -> Any:
                answer = await client.post(path, json=body)
                assert answer.status_code == 200, answer.text
                return answer.json() if answer.content else None

            async def total(**asked: Any) -> Any:
                told = await post("/get-online-features", entities=entities, **asked)
                return told["results"][told["metadata"]["feature_names"].index("total")]

            await post("/push", **pushed)
            for asked in ({"features": REFS}, {"feature_service": "all_spending"}):
                found = await total(**asked)
                assert found["values"] == [1, None]
                assert found["statuses"] == ["PRESENT", "NOT_FOUND"]
            await post("/write-to-online-store", **written)
            assert (await total(features=REFS))["values"] == [2, None]

    asyncio.run(converse())
