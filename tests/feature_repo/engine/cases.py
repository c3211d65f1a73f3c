"""Random definitions with random events to run them on, as hypothesis strategies.

Events are drawn in the order of the log; how far each arrives behind its place is drawn too, always
within the lateness of the set, since later ones never reach the engine. Gaps and ages lie on and
around the edges of the windows, delays, session gaps and the lateness.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
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
from feature_repo.contracts.events import EVENT_SCHEMA, EventType
from feature_repo.contracts.feature_set import EntityKey, FeatureSet, View
from tests.feature_repo.engine.oracle import Record, key_of, log_time_us

START = datetime(2026, 3, 1, 22, 13, 7, tzinfo=UTC)
US = timedelta(microseconds=1)
_SECOND = timedelta(seconds=1)
_WINDOWS = [
    US,
    timedelta(milliseconds=20),
    _SECOND,
    timedelta(seconds=90) + US,
    timedelta(minutes=5),
    timedelta(hours=1),
    timedelta(hours=24),
    timedelta(days=7),
    timedelta(days=30),
]
_DELAYS = [timedelta(0)] * 4 + [US, timedelta(minutes=1), timedelta(hours=1), timedelta(days=7)]
_LATENESS = [US, timedelta(seconds=10), timedelta(hours=1), timedelta(hours=24)]
_GAPS = [_SECOND, timedelta(minutes=30), timedelta(hours=3)]
_AGES = [timedelta(0), US, timedelta(minutes=1), timedelta(hours=1), timedelta(days=6)]

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
_TYPES = [
    EventType.PAGE_VIEW,
    EventType.PAYMENT_SUBMITTED,
    EventType.LABEL,
    EventType.SUPPORT_CONTACT,
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


@dataclass(frozen=True)
class Case:
    """A set of one entity, its events as they arrive, and the batches that they arrive in.

    `cuts`: where a batch ends, rising; the last is the number of events.
    """

    feature_set: FeatureSet
    arrived: tuple[Record, ...]
    cuts: tuple[int, ...]

    @property
    def entity(self) -> EntityKey:
        """The set's only entity."""
        return self.feature_set.entities[0]

    @property
    def lateness_us(self) -> int:
        """The set's lateness."""
        return self.feature_set.lateness // US

    @property
    def batches(self) -> list[tuple[Record, ...]]:
        """The events of each batch."""
        starts = (0, *self.cuts[:-1])
        return [self.arrived[a:b] for a, b in zip(starts, self.cuts, strict=True)]

    def in_log_order(self) -> Case:
        """The same events as a backfill reads them: by log time, in one batch."""
        arrived = tuple(sorted(self.arrived, key=log_time_us))
        return replace(self, arrived=arrived, cuts=(len(arrived),))

    def without_turns(self) -> Case:
        """Without events whose place among their like depends on the order of arrival.

        Of one key, those of one instant count in the log's order, and of those with one id the
        first counts: arriving the other way round, they mean something else.
        """
        kept: list[Record] = []
        newest: dict[tuple[str | None, object], int] = {}
        for event in self.arrived:
            key, log_us = key_of(self.entity, event), log_time_us(event)
            likes = [(key, event["event_time"]), (key, event["event_id"])]
            if all(newest.get(like, log_us) <= log_us for like in likes):
                newest |= dict.fromkeys(likes, log_us)
                kept.append(event)
        return replace(self, arrived=tuple(kept), cuts=tuple(_fit(self.cuts, len(kept))))


def _fit(cuts: tuple[int, ...], count: int) -> list[int]:
    return sorted({min(cut, count) for cut in cuts} | {count})


def record(**fields: Any) -> Record:
    """An event of `EVENT_SCHEMA`, null where nothing is said."""
    return dict.fromkeys(EVENT_SCHEMA.names) | fields


def batch_of(records: tuple[Record, ...] | list[Record]) -> pa.RecordBatch:
    """The events as Arrow."""
    return pa.RecordBatch.from_pylist(list(records), EVENT_SCHEMA)


@st.composite
def filters(draw: st.DrawFn) -> Filter:
    """All events, some types, comparisons, or both."""
    types = st.sampled_from([[], [], *([kind] for kind in _TYPES), _TYPES[1:3], _TYPES[2:]])
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


def _edges(feature_set: FeatureSet) -> list[timedelta]:
    """Durations at which something happens; those of sessions more often than others."""
    edges = [feature_set.lateness]
    for view in feature_set.views:
        for feature in view.features:
            if isinstance(feature, Feature):
                if isinstance(feature.window, Session):
                    edges += [feature.window.gap] * 2
                if isinstance(feature.window, Sliding):
                    edges.append(feature.window.length + feature.label_delay)
                if feature.label_delay:
                    edges.append(feature.label_delay)
    return edges


def _durations(feature_set: FeatureSet) -> list[timedelta]:
    """Steps in time: a third none or short, a third an edge, a third just beside one."""
    edges = _edges(feature_set)
    beside = [abs(edge + shift) for edge in edges for shift in (-US, US)]
    short = [timedelta(0), timedelta(0), US, _SECOND, timedelta(minutes=1)]
    most = max(len(beside), len(short))
    return [some[at % len(some)] for some in (short, edges, beside) for at in range(most)]


@dataclass(frozen=True)
class _Draws:
    gap: timedelta
    kind: EventType
    age: timedelta
    behind: timedelta
    again: int
    fields: dict[str, Any]


def _event_draws(feature_set: FeatureSet) -> st.SearchStrategy[_Draws]:
    steps = _durations(feature_set)
    lateness = feature_set.lateness
    behind = [timedelta(0)] * 3 + [lateness * share / 8 for share in (1, 4, 7)] + [lateness - US]
    maybe = st.none()
    fields = st.fixed_dictionaries(
        {
            "customer_id": st.sampled_from("aaab"),
            "counterparty_id": st.sampled_from(["x", "x", "x", "y", None]),
            "send_country": st.sampled_from(["GB", "GB", "GB", None]),
            "receive_country": st.sampled_from(["NG", "NG", "NG", "KE"]),
            "page": st.sampled_from(["home", "send", "help", None]),
            "channel": st.sampled_from(["app", "web", None]),
            "device": st.sampled_from(["ios", "", None]),
            "amount_ref_minor": maybe | st.sampled_from([0, 1, 1_000, 5_000, 123_457, 2**53]),
            "fee_ref_minor": maybe | st.sampled_from([0, 99, 2**53]),
            "amount_minor": maybe | st.sampled_from([0, 999, 1_000, 1_001, 10**15]),
            "label_value": maybe | st.sampled_from([0.0, 0.1, 0.5, 1.0, -0.3, 1e6]),
            "label_event_id": st.sampled_from(["e1", "e2"]),
        }
    )
    return st.builds(
        _Draws,
        gap=st.sampled_from(steps),
        kind=st.sampled_from([*_TYPES, EventType.PAGE_VIEW, EventType.LOGIN]),
        age=st.sampled_from([*_AGES, *_edges(feature_set)]),
        behind=st.sampled_from(behind),
        again=st.sampled_from([0] * 12 + [1, 1, 2]),
        fields=fields,
    )


def _log_of(feature_set: FeatureSet, draws: list[_Draws]) -> list[tuple[timedelta, Record]]:
    """(how far behind its place it arrives, event), in the order of log time."""
    now = START
    log: list[tuple[timedelta, Record]] = []
    for number, drawn in enumerate(draws):
        now += drawn.gap
        if drawn.again == 1 and log:  # the same event once more
            log.append((drawn.behind, log[-1 - number % min(len(log), 3)][1]))
            continue
        event_id = f"e{number}"
        fields = dict(drawn.fields)
        if drawn.again == 2 and log:  # another event under the id of one before
            event_id = log[-1][1]["event_id"]
        label = drawn.kind is EventType.LABEL
        arrival = now if label and number % 5 else None
        if not label:
            del fields["label_event_id"]
            arrival = now - drawn.age if number % 7 == 0 else None  # says nothing
        time = now - drawn.age if label and arrival else now
        log.append(
            (
                drawn.behind,
                record(
                    event_id=event_id,
                    event_time=time,
                    event_type=str(drawn.kind),
                    label_arrival_time=arrival,
                    **fields,
                ),
            )
        )
    return log


def _arrivals(feature_set: FeatureSet, log: list[tuple[timedelta, Record]]) -> list[Record]:
    """The events in the order of arrival, each within the lateness."""
    lateness_us = feature_set.lateness // US

    def place(item: tuple[timedelta, Record]) -> int:
        return log_time_us(item[1]) + item[0] // US

    kept: list[Record] = []
    watermark_us = 0
    firsts: dict[tuple[str | None, str], int] = {}
    entity = feature_set.entities[0]
    for _, event in sorted(log, key=place):
        log_us = log_time_us(event)
        watermark_us = max(watermark_us, log_us)
        first_us = firsts.setdefault((key_of(entity, event), event["event_id"]), log_us)
        # An id that comes again much later may be taken for a new event: nothing is promised.
        if log_us > watermark_us - lateness_us and first_us > watermark_us - lateness_us:
            kept.append(event)
    return kept


@st.composite
def cases(draw: st.DrawFn, sets: st.SearchStrategy[FeatureSet] | None = None) -> Case:
    """A whole case, of 40 events at most."""
    feature_set = draw(feature_sets() if sets is None else sets)
    # Lists of hypothesis are short unless told otherwise.
    size = draw(st.sampled_from([2, 6, 12, 20, 40]))
    draws = draw(st.lists(_event_draws(feature_set), min_size=size // 2, max_size=size))
    arrived = _arrivals(feature_set, _log_of(feature_set, draws))
    inner = draw(st.lists(st.integers(1, max(1, len(arrived) - 1)), max_size=5, unique=True))
    return Case(feature_set, tuple(arrived), tuple(_fit(tuple(sorted(inner)), len(arrived))))


def instants(case: Case, seed: int, count: int, floor_us: int) -> list[int]:
    """Instants (µs) on and around the edges, none before `floor_us`; the same for equal seeds."""
    steps = [step // US for step in _durations(case.feature_set)]
    times = [log_time_us(event) for event in case.arrived]
    times += [
        (event["event_time"] - datetime(1970, 1, 1, tzinfo=UTC)) // US for event in case.arrived
    ]
    found = []
    for number in range(count):
        seed = (seed * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) % 2**64
        at_us = times[(seed >> 33) % len(times)] + steps[(seed >> 13) % len(steps)]
        found.append(max(at_us, floor_us) if number else floor_us)
    return found


def tiled_cases() -> st.SearchStrategy[Case]:
    """Cases of an entity whose events are summed into tiles."""
    return st.sampled_from([_SECOND, timedelta(minutes=15)]).flatmap(
        lambda hop: cases(feature_sets(hop))
    )
