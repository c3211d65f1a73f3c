"""A slow, obvious evaluator: loops over every event, no state, straight from the definitions.

It shares no code with the engine, only the definitions. Events are records of `EVENT_SCHEMA` (as
`to_pylist` gives them) in the order in which the log holds them; instants are µs since 1970.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from typing import Any

from feature_repo.contracts.definition import (
    AS_OF,
    Derived,
    Dtype,
    Feature,
    Function,
    Lifetime,
    Session,
    Sliding,
)
from feature_repo.contracts.definition_types import dtype_of
from feature_repo.contracts.events import OUTSIDE_SESSION, EventType, to_epoch_us
from feature_repo.contracts.feature_set import EntityKey, View
from tests.feature_repo.engine.oracle_aggregates import Record, aggregate_of, column_of, fits

Row = dict[str, Any]
_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US


@dataclass(frozen=True)
class Seen:
    """An event of the key: when it happened, when the log knew, and its place in the log."""

    time_us: int
    log_us: int
    place: int
    record: Record

    @property
    def is_label(self) -> bool:
        """Whether it counts only after it became known."""
        return bool(self.record["event_type"] == EventType.LABEL)


def log_time_us(record: Record) -> int:
    """When the log knew of an event: of labels their arrival, else the event's own time.

    >>> from datetime import UTC, datetime
    >>> at, later = datetime(1970, 1, 1, tzinfo=UTC), datetime(1970, 1, 2, tzinfo=UTC)
    >>> log_time_us({"event_type": "login", "event_time": at, "label_arrival_time": later})
    0
    >>> log_time_us({"event_type": "label", "event_time": at, "label_arrival_time": later})
    86400000000
    """
    arrival = record["label_arrival_time"]
    known = arrival if record["event_type"] == EventType.LABEL and arrival else None
    return to_epoch_us(known or record["event_time"])


def key_of(entity: EntityKey, record: Record) -> str | None:
    """The event's key, or None where a part of it is missing."""
    parts = [record[column] for column in entity.columns]
    return None if any(part is None for part in parts) else "-".join(parts)


def events_of(entity: EntityKey, records: Sequence[Record], key: str) -> list[Seen]:
    """The key's events by (event time, log order), each event id once: its first arrival."""
    seen: dict[str, Seen] = {}
    for place, record in enumerate(records):
        if key_of(entity, record) == key and record["event_id"] not in seen:
            seen[record["event_id"]] = Seen(
                to_epoch_us(record["event_time"]), log_time_us(record), place, record
            )
    return sorted(seen.values(), key=lambda event: (event.time_us, event.place))


def features_at(views: Sequence[View], records: Sequence[Record], key: str, at_us: int) -> Row:
    """Every feature of a key at an instant, over the events up to and including it."""
    past = [
        event
        for event in events_of(views[0].entity, records, key)
        if event.time_us <= at_us and (not event.is_label or event.log_us < at_us)
    ]
    return _row(views, past, at_us)


def features_of_event(views: Sequence[View], records: Sequence[Record], place: int) -> Row:
    """Every feature at an event: over the events up to it in (event time, log order)."""
    at_us = to_epoch_us(records[place]["event_time"])
    key = key_of(views[0].entity, records[place])
    past = [
        event
        for event in events_of(views[0].entity, records, key or "")
        if (event.time_us, event.place) <= (at_us, place)
        and (not event.is_label or event.log_us < at_us)
    ]
    return _row(views, past, at_us)


def tiled_features_at(
    views: Sequence[View], records: Sequence[Record], key: str, at_us: int
) -> Row:
    """Features of an entity with a hop, over all the events that have arrived so far.

    An event counts as its whole tile does: the tile of a window's older edge is in it entirely, and
    so is the tile of the instant itself, events after the instant included. Give the events that
    had arrived by then: rows of earlier events are not given again.
    """
    hop_us = _us(views[0].entity.hop or timedelta(0))
    row: Row = {}
    for view in views:
        known: Row = {AS_OF: at_us}
        for feature in view.features:
            if isinstance(feature, Feature):
                assert isinstance(feature.window, Sliding)
                length_us = _us(feature.window.length)
                inside = []
                for event in events_of(view.entity, records, key):
                    first_us = event.time_us // hop_us * hop_us
                    last_us = first_us + hop_us - 1
                    if first_us <= at_us and last_us > at_us - length_us:
                        inside.append(event)
                seconds = Fraction(length_us, 1_000_000)
                value = aggregate_of(feature, _chosen(feature, inside), at_us, seconds)
                known[feature.name] = with_default(feature, value)
        row |= _outputs(view, known)
    return row


def _row(views: Sequence[View], past: list[Seen], at_us: int) -> Row:
    row: Row = {}
    for view in views:
        known: Row = {AS_OF: at_us}
        for feature in view.features:
            if isinstance(feature, Feature):
                known[feature.name] = with_default(feature, _value(feature, past, at_us))
        row |= _outputs(view, known)
    return row


def _outputs(view: View, known: Row) -> Row:
    """A view's features by their names outside, the derived ones added."""
    for feature in view.features:
        if isinstance(feature, Derived):
            known[feature.name] = derived_value(feature, known)
    return {view.output_name(feature): known[feature.name] for feature in view.features}


def with_default(feature: Feature, value: Any) -> Any:
    """The feature's default stands in for null."""
    if value is not None or feature.default is None:
        return value
    return int(feature.default) if dtype_of(feature) is Dtype.INT64 else float(feature.default)


def derived_value(derived: Derived, known: Row) -> Any:
    """A derived feature, from the others of its view."""
    inputs = [known[name] for name in derived.of]
    if any(value is None for value in inputs):
        return None
    if derived.function is Function.RATIO:
        return inputs[0] / inputs[1] if inputs[1] else None
    hour, weekday = inputs[0] // _HOUR_US % 24, (inputs[0] // _DAY_US + 3) % 7
    return {
        Function.HOUR: hour,
        Function.WEEKDAY: weekday,
        Function.IS_WEEKEND: int(weekday >= 5),
        Function.IS_NIGHT: int(hour <= 6),
    }[derived.function]


def _value(feature: Feature, past: list[Seen], at_us: int) -> Any:
    newest_us = at_us - _us(feature.label_delay)
    window = feature.window
    seconds: Fraction | None = None  # what a rate is a second of
    if isinstance(window, Sliding):
        oldest_us = newest_us - _us(window.length)
        inside = [event for event in past if oldest_us < event.time_us <= newest_us]
        seconds = Fraction(_us(window.length), 1_000_000)
    elif isinstance(window, Lifetime):
        inside = [event for event in past if event.time_us <= newest_us]
    else:
        inside = _session(window, past, at_us)
        if inside:
            seconds = Fraction(inside[-1].time_us - inside[0].time_us, 1_000_000)
    return aggregate_of(feature, _chosen(feature, inside), at_us, seconds)


def _chosen(feature: Feature, inside: list[Seen]) -> list[tuple[int, Record]]:
    """The events that take part: those that fit the filter and have the column."""
    return [
        (event.time_us, event.record)
        for event in inside
        if fits(feature.events, event.record)
        and (feature.column is None or column_of(event.record, feature.column) is not None)
    ]


def _session(window: Session, past: list[Seen], at_us: int) -> list[Seen]:
    """The events of the open session, or of the one that ended last."""
    sessions: list[list[Seen]] = []
    for event in past:
        if event.record["event_type"] in OUTSIDE_SESSION:
            continue
        if not sessions or event.time_us - sessions[-1][-1].time_us > _us(window.gap):
            sessions.append([])
        sessions[-1].append(event)
    if not sessions or at_us - sessions[-1][-1].time_us > _us(window.gap):
        sessions.append([])  # silent for too long: nothing is open
    back = 1 + window.back
    return sessions[-back] if len(sessions) >= back else []


def _us(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1)
