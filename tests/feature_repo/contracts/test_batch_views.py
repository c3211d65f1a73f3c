"""Batch views as data: Feast's objects are made of them, and models' inputs keep their order."""

from __future__ import annotations

from pathlib import Path

from feature_repo.contracts.batch_views import BATCH_VIEWS
from feature_repo.stores.feast_store import open_store
from tests.applied import apply_definitions
from tests.training.sessions import settings_at


def test_every_view_is_applied_as_declared(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    apply_definitions(settings)
    store = open_store(settings)
    for view in BATCH_VIEWS:
        applied = store.get_feature_view(view.name)
        found = {field.name: (str(field.dtype), field.description) for field in applied.features}
        assert found == {each.name: (each.dtype, each.meaning) for each in view.fields}
        assert (applied.ttl, applied.tags["kind"]) == (view.ttl, view.kind)


def test_a_services_inputs_stand_in_declared_order(tmp_path: Path) -> None:
    # Feast keeps a view's schema in another order in each process; a service in such an order
    # would have another fingerprint after each `feast apply`.
    settings = settings_at(tmp_path)
    apply_definitions(settings)
    service = open_store(settings).get_feature_service("next_intent")
    (history,) = (
        projection.features
        for projection in service.feature_view_projections
        if projection.name == "customer_history"
    )
    declared = [
        each.name for view in BATCH_VIEWS if view.name == "customer_history" for each in view.fields
    ]
    names = [field.name for field in history][3:]
    assert len(names) == 9
    assert names == [name for name in declared if name in names]
