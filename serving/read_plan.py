"""What to read of the online store for a list of features, worked out once a model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from feature_repo.contracts.features import SESSION_VIEW
from feature_repo.stores.redis_layout import field_name, timestamp_field
from serving.catalog import Catalog, UnknownFeatureError

CUSTOMER_KEY = "customer_id"
CORRIDOR_KEY = "corridor"
# The customer's corridor where the request names none. No other stands in for it: training joins
# corridors by this feature alone.
CORRIDOR_REF = f"{SESSION_VIEW}:session_corridor"
# What `decode_value` reads; arrays and bytes are no model input.
_SCALARS = frozenset({"Int32", "Int64", "Float32", "Float64", "String", "Bool"})


@dataclass(frozen=True)
class ViewPlan:
    """One view's part of a hash read: its event time at `at`, its values after it.

    `texts` says of each reference whether it is a string.
    """

    name: str
    ttl_us: int | None
    refs: tuple[str, ...]
    texts: tuple[bool, ...]
    at: int


@dataclass(frozen=True)
class HashPlan:
    """The fields to ask of one entity's hash, and the views they make up."""

    fields: tuple[bytes, ...]
    views: tuple[ViewPlan, ...]


@dataclass(frozen=True)
class ReadPlan:
    """What to read for an ordered list of feature references, worked out once a model.

    `hidden` is read in order to find the corridor and left out of the rows.
    """

    refs: tuple[str, ...]
    customer: HashPlan
    corridor: HashPlan
    hidden: tuple[str, ...]
    hidden_views: tuple[str, ...]


def plan_read(catalog: Catalog, refs: Iterable[str]) -> ReadPlan:
    """Work out how to read these references.

    Raises:
        UnknownFeatureError: a reference is unknown, not a scalar, or of an entity other than
            customer and corridor.
    """
    refs = tuple(dict.fromkeys(refs))
    catalog.check_refs(refs)
    grouped = _by_join_key(catalog, refs)
    hidden: tuple[str, ...] = ()
    if grouped[CORRIDOR_KEY] and CORRIDOR_REF not in refs and _holds(catalog, CORRIDOR_REF):
        hidden = (CORRIDOR_REF,)
    shown_views = {_view_of(ref) for ref in refs}
    return ReadPlan(
        refs=refs,
        customer=_hash_plan(catalog, _by_join_key(catalog, refs + hidden)[CUSTOMER_KEY]),
        corridor=_hash_plan(catalog, grouped[CORRIDOR_KEY]),
        hidden=hidden,
        hidden_views=tuple({_view_of(ref) for ref in hidden} - shown_views),
    )


def _view_of(ref: str) -> str:
    return ref.partition(":")[0]


def _dtype_of(catalog: Catalog, ref: str) -> str:
    view, _, feature = ref.partition(":")
    return catalog.views[view].features[feature]


def _holds(catalog: Catalog, ref: str) -> bool:
    view, _, feature = ref.partition(":")
    return view in catalog.views and feature in catalog.views[view].features


def _by_join_key(catalog: Catalog, refs: Iterable[str]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {CUSTOMER_KEY: [], CORRIDOR_KEY: []}
    for ref in refs:
        dtype = _dtype_of(catalog, ref)
        if dtype not in _SCALARS:
            raise UnknownFeatureError("features", ref, "a scalar", f"it is {dtype}")
        join_key = catalog.views[_view_of(ref)].join_key
        if join_key not in grouped:
            raise UnknownFeatureError(
                "features", ref, f"a feature joined by {sorted(grouped)}", "leave it out"
            )
        grouped[join_key].append(ref)
    return grouped


def _hash_plan(catalog: Catalog, refs: Iterable[str]) -> HashPlan:
    by_view: dict[str, list[str]] = {}
    for ref in refs:
        by_view.setdefault(_view_of(ref), []).append(ref)
    fields: list[bytes] = []
    views = []
    for name, view_refs in by_view.items():
        ttl = catalog.views[name].ttl
        ttl_us = None if ttl is None else ttl // timedelta(microseconds=1)
        texts = tuple(_dtype_of(catalog, ref) == "String" for ref in view_refs)
        views.append(ViewPlan(name, ttl_us, tuple(view_refs), texts, at=len(fields)))
        fields.append(timestamp_field(name))
        fields.extend(field_name(name, ref.partition(":")[2]) for ref in view_refs)
    return HashPlan(tuple(fields), tuple(views))
