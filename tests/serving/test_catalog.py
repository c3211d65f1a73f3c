"""The catalogue read from Feast's registry."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from feature_repo.contracts.errors import SettingsError
from feature_repo.contracts.features import CUSTOMER_SESSION, FEATURE_SET
from feature_repo.contracts.settings import Settings
from serving.catalog import Catalog, CatalogWatch, UnknownFeatureError, catalog_of, load_catalog
from tests.serving.conftest import SERVICE

pytestmark = pytest.mark.xdist_group("serving")


def test_views_carry_ttl_join_key_and_dtypes(catalog: Catalog) -> None:
    assert catalog.project == "daima"
    session = catalog.views["customer_session"]
    assert (session.join_key, session.ttl, session.entity) == ("customer_id", None, "customer")
    assert session.features == {
        output.name: str(output.dtype) for output in CUSTOMER_SESSION.outputs
    }
    profile = catalog.views["customer_profile"]
    assert (profile.join_key, profile.ttl) == ("customer_id", timedelta(days=30))
    assert profile.entity is None
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
    with pytest.raises(UnknownFeatureError, match=r"expected one of \[.*'session_duration'.*\]"):
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


def on_demand_views(**differing: list[object]) -> list[object]:
    return [
        SimpleNamespace(
            name=view.name,
            tags={"kind": "stream"},
            features=differing.get(
                view.name,
                [SimpleNamespace(name=each.name, dtype=each.dtype) for each in view.outputs],
            ),
        )
        for view in FEATURE_SET.views
    ]


def store(views: list[object], on_demand: list[object]) -> object:
    return SimpleNamespace(
        project="p",
        list_feature_views=lambda: views,
        list_on_demand_feature_views=lambda: on_demand,
        list_feature_services=list,
    )


def test_views_that_cannot_be_read_by_one_key_are_left_out() -> None:
    def view(name: str, *keys: str, online: bool = True, ttl: timedelta | None = None) -> object:
        return SimpleNamespace(name=name, join_keys=keys, online=online, ttl=ttl, features=[])

    views = [
        view("kept", "customer_id", ttl=timedelta(0)),
        view("pair", "customer_id", "corridor"),
        view("offline", "customer_id", online=False),
    ]
    foreign = SimpleNamespace(name="foreign", tags={}, features=[])
    catalog = catalog_of(store(views, [*on_demand_views(), foreign]), FEATURE_SET)
    assert list(catalog.views) == ["kept", *(view.name for view in FEATURE_SET.views)]
    assert catalog.views["kept"].ttl is None  # Feast's zero: for ever


def test_a_registry_of_other_definitions_is_refused() -> None:
    applied = [
        on_demand_views()[1:],
        on_demand_views(customer_session=[]),
        [*on_demand_views(), SimpleNamespace(name="old", tags={"kind": "stream"}, features=[])],
    ]
    for views, named in zip(applied, ("customer_session", "customer_session", "old"), strict=True):
        with pytest.raises(SettingsError, match=rf"\['{named}'\].*the set default.*feast apply"):
            catalog_of(store([], views), FEATURE_SET)
