from __future__ import annotations

from pathlib import Path

import pytest

from feature_repo.contracts.errors import SettingsError
from feature_repo.contracts.settings import Settings


def test_settings_survive_the_way_through_the_environment(tmp_path: Path) -> None:
    given = {"DAIMA_HOME": str(tmp_path), "DAIMA_REDIS": "db:1,db=2"}
    settings = Settings.from_env(given)
    assert Settings.from_env(settings.environment()) == settings
    assert settings.definitions is None
    assert settings.events_table == tmp_path / "offline" / "events"
    own = Settings.from_env(given | {"DAIMA_DEFINITIONS": str(tmp_path / "mine.py")})
    assert own.definitions == tmp_path / "mine.py"
    assert Settings.from_env(own.environment()) == own


@pytest.mark.parametrize("address", ["localhost", "redis://x", ":6379", "host:port"])
def test_a_malformed_store_address_is_refused_without_showing_it(address: str) -> None:
    with pytest.raises(SettingsError, match="DAIMA_REDIS") as caught:
        Settings.from_env({"DAIMA_REDIS": f"{address},password=secret"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["db:6379,password=secret", "password=secret:123,db:6379"])
def test_the_printable_address_has_no_password(text: str) -> None:
    assert Settings.from_env({"DAIMA_REDIS": text}).redis_address == "db:6379"


def test_an_ipv6_address_is_one() -> None:
    assert Settings.from_env({"DAIMA_REDIS": "[::1]:6379"}).redis_address == "[::1]:6379"
