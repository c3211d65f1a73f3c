"""docs/online-store.md: its configuration is one, and its example says what it says."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml
from feast import FeatureStore
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from pydantic import ValidationError

from feature_repo.contracts.settings import ROOT
from feature_repo.stores.online import ValkeyOnlineStore, ValkeyOnlineStoreConfig
from feature_repo.stores.provider import ColumnarProvider
from tests.feature_repo.stores.test_online_feast_ways import DEFINITIONS

TEXT = (ROOT / "docs" / "online-store.md").read_text()


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    assert found
    return found[1]


def test_the_configuration_and_the_example(tmp_path: Path, valkey: str) -> None:
    document = yaml.safe_load(block("yaml"))
    document["online_store"]["connection_string"] = f"redis://{valkey}"
    (tmp_path / "data").mkdir()
    (tmp_path / "feature_store.yaml").write_text(yaml.safe_dump(document))
    store = FeatureStore(repo_path=str(tmp_path))
    assert isinstance(store._get_provider(), ColumnarProvider)
    assert isinstance(store._get_provider().online_store, ValkeyOnlineStore)

    source = tmp_path / "definitions.py"
    source.write_text(DEFINITIONS.format(path=str(tmp_path / "rows.parquet")))
    defined = runpy.run_path(str(source))
    store.apply([defined["customer"], defined["spending"]])
    # Each line of the example says in its comment what it gives.
    lines = block("python").splitlines()
    known: dict[str, Any] = {"store": store} | dict(FieldStatus.items())
    exec(lines[0], known)  # noqa: S102 - our own page
    for line in lines[1:]:
        code, _, wanted = line.partition("  # ")
        assert eval(code, known) == eval(wanted, known), line  # noqa: S307 - our own page


@pytest.mark.parametrize(
    "option", ["redis_type", "sentinel_master", "key_ttl_seconds", "skip_dedup"]
)
def test_the_stock_stores_options_are_refused_by_name(option: str) -> None:
    assert option in TEXT
    with pytest.raises(ValidationError, match=option):
        ValkeyOnlineStoreConfig(**{option: 1})
