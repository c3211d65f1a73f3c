"""The registry's client: what it costs to open, and what is not shown of its address."""

from __future__ import annotations

import subprocess
import sys
import traceback
from dataclasses import replace
from datetime import timedelta

import pytest

from feature_repo.contracts.errors import SettingsError
from feature_repo.contracts.settings import Settings
from serving.app import create_app
from serving.catalog import Catalog
from serving.registry import open_registry
from serving.settings import ServingSettings

HIDDEN = "topsecret"
pytestmark = pytest.mark.xdist_group("serving")


def settings_of(url: str) -> Settings:
    return Settings.from_env({"MLFLOW_TRACKING_URI": url})


def test_an_address_that_is_none_is_refused_without_its_password() -> None:
    with pytest.raises(SettingsError, match=r"MLFLOW_TRACKING_URI is 'ftp://\*\*\*@h:1'") as caught:
        open_registry(settings_of(f"ftp://ana:{HIDDEN}@h:1"))
    assert HIDDEN not in "".join(traceback.format_exception(caught.value))


def test_a_registry_that_is_away_is_told_of_without_its_password(
    settings: ServingSettings,
    catalog: Catalog,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    shared = settings_of(f"http://ana:{HIDDEN}@127.0.0.1:1")
    app = create_app(
        replace(settings, reload_every=timedelta(hours=1)), catalog, open_registry(shared)
    )
    app.service.champions.refresh()
    told = app.service.champions.line.registry_error or ""
    assert "http://***@127.0.0.1:1" in told
    assert "registry does not answer" in caplog.text
    ours = [each.getMessage() for each in caplog.records if each.name.startswith("serving")]
    assert HIDDEN not in told + "".join(ours)


def test_asking_it_imports_no_feast() -> None:
    """MLflow would load a plugin of Feast's, and with it all of Feast, at the first question."""
    code = (
        "import sys\nfrom serving.registry import open_registry\n"
        "from feature_repo.contracts.settings import Settings\n"
        "client = open_registry(Settings.from_env({'MLFLOW_TRACKING_URI': 'http://127.0.0.1:1'}))\n"
        "try:\n    client.search_registered_models()\nexcept Exception as error:\n"
        "    print(type(error).__name__, 'feast' in sys.modules, 'lightgbm' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_DISABLE_TELEMETRY": "true"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "MlflowException False False\n"
