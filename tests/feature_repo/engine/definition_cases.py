"""Random definitions, as hypothesis strategies: every aggregate, window, filter and delay."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import strategies as st

from feature_repo.contracts.definition import (
    AS_OF,
    Aggregate,
    Comparison,
    Derived,
    Feature,
    Filter,
    Function,
    Lifetime,
    Operator,
    Session,
    Sliding,
    Window,
)
from feature_repo.contracts.events import EventType
from feature_repo.contracts.feature_set import EntityKey, FeatureSet, View

US = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)
_WINDOWS = [
    US,
    timedelta(milliseconds=20),
    SECOND,
    timedelta(seconds=90) + US,
    timedelta(minutes=5),
    timedelta(hours=1),
    timedelta(hours=24),
    timedelta(days=7),
    timedelta(days=30),
]
_DELAYS = [timedelta(0)] * 4 + [US, timedelta(minutes=1), timedelta(hours=1), timedelta(days=7)]
_LATENESS = [US, timedelta(seconds=10), timedelta(hours=1), timedelta(hours=24)]
_GAPS = [SECOND, timedelta(minutes=30), timedelta(hours=3)]

ENTITIES = (
    EntityKey("customer", ("customer_id",), "customer_id"),
    EntityKey("counterparty", ("counterparty_id",), "counterparty_id"),
    EntityKey("corridor", ("send_country", "receive_country"), "corridor"),
)
_TEXTS = ["page", "channel", "device", "corridor", "label_event_id", "counterparty_id"]
_INTS = ["amount_minor", "amount_ref_minor", "fee_ref_minor", "total_ref_minor"]
_FLOATS = ["label_value"]
_NUMERIC = {Aggregate.SUM, Aggregate.MEAN, Aggregate.STD, Aggregate.MIN, Aggregate.MAX}
_WITHOUT_DEFAULT = {Aggregate.COUNT, Aggregate.SUM, Aggregate.DISTINCT_COUNT, Aggregate.LAST_N}
_COLUMNS: dict[Aggregate, list[str | None]] = {
    **{aggregate: [*_INTS, *_FLOATS] for aggregate in _NUMERIC},
    Aggregate.COUNT: [None, None, *_TEXTS, *_INTS, *_FLOATS],
    Aggregate.RATE: [None, *_INTS, *_FLOATS],
    Aggregate.DISTINCT_COUNT: [*_TEXTS, *_INTS],
    Aggregate.LAST_N: [*_TEXTS, *_INTS],
    Aggregate.FIRST: [*_TEXTS, *_INTS, *_FLOATS],
    Aggregate.LAST: [*_TEXTS, *_INTS, *_FLOATS],
    Aggregate.TIME_SINCE: [None],
    Aggregate.START: [None],
    Aggregate.DURATION: [None],
}
TYPES = [
    EventType.PAGE_VIEW,
    EventType.PAYMENT_SUBMITTED,
    EventType.LABEL,
    EventType.SUPPORT_CONTACT,
    EventType.FINANCIAL_SNAPSHOT,
]
_COMPARISONS = [
    *(Comparison("amount_minor", operator, 1_000) for operator in Operator),
    Comparison("label_value", Operator.GE, 0.5),
    Comparison("label_value", Operator.EQ, 1),
    Comparison("total_ref_minor", Operator.LT, 5_000),
    Comparison("channel", Operator.EQ, "app"),
    Comparison("page", Operator.NE, "home"),
    Comparison("corridor", Operator.EQ, "GB-NG"),
]


@st.composite
def filters(draw: st.DrawFn) -> Filter:
    """All events, some types, comparisons, or both."""
    types = st.sampled_from([[], [], *([kind] for kind in TYPES), TYPES[1:3], TYPES[2:]])
    where = st.sampled_from([(), ()]) | st.tuples(st.sampled_from(_COMPARISONS))
    return Filter(tuple(draw(types)), draw(where))


@st.composite
def features(draw: st.DrawFn, pool: list[Filter], gap: timedelta) -> Feature:
    """A feature of any aggregate, over one of the filters."""
    aggregate = draw(st.sampled_from(list(Aggregate)))
    kinds: list[list[Window]] = [
        [Sliding(length) for length in _WINDOWS],
        [Session(gap), Session(gap), Session(gap, back=1)],
    ]
    if aggregate not in (Aggregate.DISTINCT_COUNT, Aggregate.RATE):
        kinds.append([Lifetime()])
    window = draw(st.sampled_from(draw(st.sampled_from(kinds))))
    column = draw(st.sampled_from(_COLUMNS[aggregate]))
    has_default = column not in _TEXTS and aggregate not in _WITHOUT_DEFAULT
    return Feature(
        aggregate,
        window,
        column,
        draw(st.sampled_from(pool)),
        label_delay=timedelta(0) if isinstance(window, Session) else draw(st.sampled_from(_DELAYS)),
        n=draw(st.integers(1, 4)) if aggregate is Aggregate.LAST_N else 0,
        default=draw(st.sampled_from([None, None, 0.0, -1.0])) if has_default else None,
    )


def _without_labels(one: Filter) -> tuple[EventType, ...]:
    return tuple(kind for kind in one.event_types if kind is not EventType.LABEL)


@st.composite
def tiled_features(draw: st.DrawFn, pool: list[Filter]) -> Feature:
    """A feature that tiles can answer."""
    aggregate = draw(st.sampled_from([Aggregate.COUNT, Aggregate.RATE, *sorted(_NUMERIC)]))
    if aggregate is Aggregate.STD:
        aggregate = Aggregate.SUM
    return Feature(
        aggregate,
        Sliding(draw(st.sampled_from(_WINDOWS[2:]))),
        draw(st.sampled_from(_COLUMNS[aggregate])),
        draw(st.sampled_from(pool)),
    )


@st.composite
def feature_sets(draw: st.DrawFn, hop: timedelta | None = None) -> FeatureSet:
    """One entity with one or two views, six features at most and some derived ones."""
    entity = replace(draw(st.sampled_from(ENTITIES)), hop=hop)
    gap = draw(st.sampled_from(_GAPS))
    pool = draw(st.lists(filters(), min_size=1, max_size=3))
    if hop:  # a tile does not know which of its labels was known when
        pool = [replace(one, event_types=_without_labels(one)) for one in pool]
    one = tiled_features(pool) if hop else features(pool, gap)
    chosen = draw(st.lists(one, min_size=1, max_size=6, unique_by=lambda feature: feature.name))
    cut = draw(st.integers(0, len(chosen) - 1))
    views = []
    for name, prefix, part in (("first", "", chosen[cut:]), ("second", "b_", chosen[:cut])):
        if part:
            views.append(View(name, entity, (*part, *_derived(draw, part)), prefix))
    return FeatureSet("random", tuple(views), draw(st.sampled_from(_LATENESS)))


def _derived(draw: st.DrawFn, given: list[Feature]) -> list[Derived]:
    found = []
    yes = st.sampled_from([False, True])
    if draw(yes):
        function = draw(st.sampled_from([f for f in Function if f is not Function.RATIO]))
        of = [AS_OF, *(f.name for f in given if f.aggregate is Aggregate.START)]
        found.append(Derived("calendar", function, (draw(st.sampled_from(of)),)))
    numbers = [
        f.name for f in given if f.column not in _TEXTS and f.aggregate is not Aggregate.LAST_N
    ] + [f.name for f in given if f.aggregate in (Aggregate.COUNT, Aggregate.DISTINCT_COUNT)]
    if draw(yes) and numbers:
        pair = draw(st.sampled_from(numbers)), draw(st.sampled_from(numbers))
        found.append(Derived("quotient", Function.RATIO, pair))
    return found
