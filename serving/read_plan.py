"""What to read of the online store for a list of features, worked out once a model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from feature_repo.contracts.features import CORRIDOR, COUNTERPARTY, CUSTOMER, CUSTOMER_SESSION
from feature_repo.contracts.outlook import SCALE_REF, SESSION_START_REF, SHAPE_REF
from feature_repo.contracts.states import state_feature, state_view
from feature_repo.engine.plain import PlainReader
from feature_repo.stores.redis_layout import field_name, timestamp_field
from serving.catalog import Catalog, UnknownFeatureError, View

CUSTOMER_KEY = CUSTOMER.join_key
CORRIDOR_KEY = CORRIDOR.join_key
COUNTERPARTY_KEY = COUNTERPARTY.join_key
# The customer's corridor where the request names none. No other stands in for it: training joins
# corridors by this feature alone.
OUTLOOK_SOURCES = (SESSION_START_REF, SHAPE_REF, SCALE_REF)
CORRIDOR_REF = f"{CUSTOMER_SESSION.name}:session_corridor_last"
# Bytes are no model input.
_SCALARS = frozenset({"Int32", "Int64", "Float32", "Float64", "String", "Bool"})
_ARRAYS = frozenset({"Array(Int32)", "Array(Int64)", "Array(Float32)", "Array(Float64)"})


@dataclass(frozen=True)
class ViewPlan:
    """One stored view's part of a hash read: its event time at `at`, its values after it.

    `texts` says of each reference whether it is a string, `arrays` whether it is an array.
    """

    name: str
    ttl_us: int | None
    refs: tuple[str, ...]
    texts: tuple[bool, ...]
    arrays: tuple[bool, ...]
    at: int


@dataclass(frozen=True)
class StatePlan:
    """An entity's state in a hash read, and what is computed from it.

    Attributes:
        reader: computes the features.
        at: where its event time is read; the state follows.
        views: the views asked for.
        refs: the features asked for.
    """

    reader: PlainReader
    at: int
    views: tuple[str, ...]
    refs: tuple[str, ...]


@dataclass(frozen=True)
class HashPlan:
    """The fields to ask of one entity's hash, and what they make up."""

    fields: tuple[bytes, ...] = ()
    views: tuple[ViewPlan, ...] = ()
    state: StatePlan | None = None


@dataclass(frozen=True)
class ReadPlan:
    """What to read for an ordered list of feature references, worked out once a model.

    `hidden` is read in order to find the corridor, or what `derived` is computed from, and left out
    of the rows.
    """

    refs: tuple[str, ...]
    customer: HashPlan
    corridor: HashPlan
    counterparty: HashPlan
    hidden: tuple[str, ...]
    hidden_views: tuple[str, ...]
    derived: tuple[str, ...] = ()


def plan_read(catalog: Catalog, refs: Iterable[str]) -> ReadPlan:
    """Work out how to read these references.

    Raises:
        UnknownFeatureError: a reference is unknown, not a scalar, or of an entity other than
            customer, corridor and counterparty.
    """
    refs = tuple(dict.fromkeys(refs))
    catalog.check_refs(refs)
    derived = tuple(ref for ref in refs if catalog.views[_view_of(ref)].derived)
    sources = OUTLOOK_SOURCES if derived else ()
    asked = dict.fromkeys((*(ref for ref in refs if ref not in derived), *sources))
    grouped = _by_join_key(catalog, asked)
    if grouped[CORRIDOR_KEY] and _holds(catalog, CORRIDOR_REF) and CORRIDOR_REF not in asked:
        grouped[CUSTOMER_KEY].append(CORRIDOR_REF)
        asked[CORRIDOR_REF] = None
    hidden = tuple(ref for ref in asked if ref not in refs)
    shown_views = {_view_of(ref) for ref in refs}
    return ReadPlan(
        refs=refs,
        customer=_hash_plan(catalog, grouped[CUSTOMER_KEY]),
        corridor=_hash_plan(catalog, grouped[CORRIDOR_KEY]),
        counterparty=_hash_plan(catalog, grouped[COUNTERPARTY_KEY]),
        hidden=hidden,
        hidden_views=tuple({_view_of(ref) for ref in hidden} - shown_views),
        derived=derived,
    )


def _view_of(ref: str) -> str:
    return ref.partition(":")[0]


def _feature_of(ref: str) -> str:
    return ref.partition(":")[2]


def _holds(catalog: Catalog, ref: str) -> bool:
    view = catalog.views.get(_view_of(ref))
    return view is not None and _feature_of(ref) in view.features


def _by_join_key(catalog: Catalog, refs: Iterable[str]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {CUSTOMER_KEY: [], CORRIDOR_KEY: [], COUNTERPARTY_KEY: []}
    for ref in refs:
        view = catalog.views[_view_of(ref)]
        dtype = view.features[_feature_of(ref)]
        # Sequences of a stream (the last n pages) are no numbers of a fixed count.
        if dtype not in _SCALARS and (dtype not in _ARRAYS or view.entity is not None):
            expected = "a scalar, or a stored array of numbers"
            raise UnknownFeatureError("features", ref, expected, f"it is {dtype}")
        if view.join_key not in grouped:
            raise UnknownFeatureError(
                "features", ref, f"a feature joined by {sorted(grouped)}", "leave it out"
            )
        grouped[view.join_key].append(ref)
    return grouped


def _hash_plan(catalog: Catalog, refs: Iterable[str]) -> HashPlan:
    by_view: dict[str, list[str]] = {}
    for ref in refs:
        by_view.setdefault(_view_of(ref), []).append(ref)
    fields: list[bytes] = []
    stored = []
    computed: list[str] = []
    for name, view_refs in by_view.items():
        if catalog.views[name].entity is not None:
            computed.append(name)
            continue
        stored.append(_view_plan(catalog.views[name], view_refs, at=len(fields)))
        fields.append(timestamp_field(name))
        fields.extend(field_name(name, _feature_of(ref)) for ref in view_refs)
    state = None
    if computed:
        state = _state_plan(catalog, {name: by_view[name] for name in computed}, at=len(fields))
        entity = state.reader.program.entity.name
        fields.append(timestamp_field(state_view(entity)))
        fields.append(field_name(state_view(entity), state_feature(entity)))
    return HashPlan(tuple(fields), tuple(stored), state)


def _view_plan(view: View, refs: Iterable[str], at: int) -> ViewPlan:
    refs = tuple(refs)
    return ViewPlan(
        name=view.name,
        ttl_us=None if view.ttl is None else view.ttl // timedelta(microseconds=1),
        refs=refs,
        texts=tuple(view.features[_feature_of(ref)] == "String" for ref in refs),
        arrays=tuple(view.features[_feature_of(ref)] in _ARRAYS for ref in refs),
        at=at,
    )


def _state_plan(catalog: Catalog, by_view: dict[str, list[str]], at: int) -> StatePlan:
    # One entity a join key, so that all views of a hash share one state.
    (entity,) = {catalog.views[name].entity for name in by_view}
    reader = catalog.readers[entity or ""]
    refs = tuple(ref for view_refs in by_view.values() for ref in view_refs)
    return StatePlan(
        reader=reader,
        at=at,
        views=tuple(by_view),
        refs=refs,
    )
