"""The settings reach Feast's configuration as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from feature_repo.contracts.settings import Settings
from feature_repo.stores.feast_store import open_store


@pytest.mark.parametrize(
    "password", ["a #b", "a: b", '"', "'", "{", "$DAIMA_HOME", "\t", "- x\n- y"], ids=repr
)
def test_what_looks_like_yaml_or_a_variable_stays_a_value(tmp_path: Path, password: str) -> None:
    home = tmp_path / "home #1: mine"
    settings = replace(Settings.from_env({}), home=home, redis=f"h:1,password={password}")
    config = open_store(settings).config
    assert config.online_store.connection_string == f"h:1,password={password}"
    assert config.registry.path == f"{home}/registry.db"
    assert config.registry.cache_ttl_seconds == 60
