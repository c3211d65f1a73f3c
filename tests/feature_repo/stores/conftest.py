"""What the tests of the stores share: a Feast project applied, connections to one Valkey."""

from __future__ import annotations

from pathlib import Path

import pytest
from feast import FeatureStore

from tests.feature_repo.stores.both_stores import OURS, STOCK, open_with, project


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the project's definitions applied; no server is needed for that."""
    path = tmp_path_factory.mktemp("project")
    open_with(STOCK, path, "127.0.0.1:1").apply(project(path))
    return path


@pytest.fixture
def ours(folder: Path, valkey: str) -> FeatureStore:
    """The project over our store, with an empty Valkey."""
    return open_with(OURS, folder, valkey)
