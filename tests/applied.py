"""The real feature definitions, applied to a registry of the tests' own."""

from __future__ import annotations

import runpy
import warnings

import pytest
from feast import Entity, FeatureService, FeatureView
from feast.on_demand_feature_view import OnDemandFeatureView

from feature_repo.contracts.settings import REPO_PATH, Settings
from feature_repo.stores.feast_store import open_store


def apply_definitions(settings: Settings) -> None:
    """`feast apply` of the real definitions into the settings' registry, within this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.environment().items():
            patch.setenv(name, value)
        defined = runpy.run_path(str(REPO_PATH / "definitions.py"))
    kinds = (Entity, FeatureView, OnDemandFeatureView, FeatureService)
    found = {id(value): value for value in defined.values() if isinstance(value, kinds)}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "On demand feature view is an experimental feature")
        open_store(settings).apply(list(found.values()))
