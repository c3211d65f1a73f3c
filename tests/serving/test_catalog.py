"""The catalogue read from Feast's registry."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from feature_repo.contracts.errors import SettingsError
from feature_repo.contracts.features import STREAM_VIEWS
from feature_repo.contracts.settings import Settings
from serving.catalog import Catalog, CatalogWatch, UnknownFeatureError, catalog_of, load_catalog
from tests.serving.conftest import SERVICE

pytestmark = pytest.mark.xdist_group("serving")


def test_views_carry_ttl_join_key_and_dtypes(catalog: Catalog) -> None:
    assert catalog.project == "daima"
    session = catalog.views["customer_session"]
    assert (session.join_key, session.ttl) == ("customer_id", timedelta(minutes=30))
    assert session.features == {
        feature.name: str(feature.dtype) for feature in STREAM_VIEWS["customer_session"]
    }
    assert catalog.views["corridor_costs"].join_key == "corridor"


def test_a_service_keeps_the_order_of_its_declaration(catalog: Catalog) -> None:
    refs = catalog.services[SERVICE]
    assert refs[:2] == (
        "customer_session:session_start_hour",
        "customer_session:session_start_weekday",
    )
    assert refs[-1] == "corridor_costs:providers"
    inputs = catalog.service_inputs(SERVICE)
    assert tuple(item.ref for item in inputs.inputs) == refs
    assert inputs.inputs[2].dtype == "String"


def test_what_is_unknown_is_told_what_there_is(catalog: Catalog) -> None:
    with pytest.raises(UnknownFeatureError, match=r"expected one of \['session_duration'\]"):
        catalog.service_inputs("churn")


def test_a_home_without_a_registry_is_told_to_apply(tmp_path: Path) -> None:
    settings = replace(Settings.from_env({}), home=tmp_path)
    with pytest.raises(SettingsError, match="feast apply"):
        load_catalog(settings)


def test_a_registry_written_again_is_read_again_and_half_of_one_is_not(
    applied_home: Settings, catalog: Catalog, tmp_path: Path
) -> None:
    registry = tmp_path / "registry.db"
    watch = CatalogWatch(replace(applied_home, home=tmp_path))
    assert watch.reread() is None, "none there yet"
    whole = (applied_home.home / "registry.db").read_bytes()
    registry.write_bytes(whole)
    assert watch.reread() == catalog
    assert watch.reread() is None, "reading does not write"
    for broken in (b"", whole[: len(whole) // 2]):
        registry.write_bytes(broken)
        assert watch.reread() is None
    registry.write_bytes(whole)
    assert watch.reread() == catalog


def test_views_that_cannot_be_read_by_one_key_are_left_out() -> None:
    def view(name: str, *keys: str, online: bool = True, ttl: timedelta | None = None) -> object:
        return SimpleNamespace(name=name, join_keys=keys, online=online, ttl=ttl, features=[])

    views = [
        view("kept", "customer_id", ttl=timedelta(0)),
        view("pair", "customer_id", "corridor"),
        view("offline", "customer_id", online=False),
    ]
    store = SimpleNamespace(
        project="p", list_feature_views=lambda: views, list_feature_services=list
    )
    catalog = catalog_of(store)
    assert list(catalog.views) == ["kept"]
    assert catalog.views["kept"].ttl is None  # Feast's zero: for ever
