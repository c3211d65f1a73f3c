"""Random events to run definitions on, in batches and out of order, as hypothesis strategies.

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

from feature_repo.contracts.definition import Feature, Session, Sliding
from feature_repo.contracts.events import EVENT_SCHEMA, EventType
from feature_repo.contracts.feature_set import EntityKey, FeatureSet
from tests.feature_repo.engine.definition_cases import SECOND, TYPES, US, feature_sets
from tests.feature_repo.engine.oracle import key_of, log_time_us
from tests.feature_repo.engine.oracle_aggregates import Record

START = datetime(2026, 3, 1, 22, 13, 7, tzinfo=UTC)
_AGES = [timedelta(0), US, timedelta(minutes=1), timedelta(hours=1), timedelta(days=6)]


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
    short = [timedelta(0), timedelta(0), US, SECOND, timedelta(minutes=1)]
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
        kind=st.sampled_from([*TYPES, EventType.PAGE_VIEW, EventType.LOGIN]),
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
    return st.sampled_from([SECOND, timedelta(minutes=15)]).flatmap(
        lambda hop: cases(feature_sets(hop))
    )
