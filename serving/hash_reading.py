"""What stands in the hashes of a batch of keys: stored values decoded, states computed upon.

Values follow Feast's layout (`feature_repo/stores/redis_layout.py`). Stream features are computed
from the key's state, by the engine, as of the instant asked for: after any silence they are what
all events up to then amount to.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from feature_repo.engine.plain import readable
from feature_repo.engine.read import words_of
from feature_repo.stores.redis_layout import decode_array, decode_timestamp, decode_value
from serving.feature_row import FeatureRow, Status, Value
from serving.read_plan import HashPlan, StatePlan, ViewPlan
from serving.store_connection import HashValues

# What decoding bytes that are no protobuf of ours raises (UnicodeDecodeError is a ValueError).
_UNREADABLE = (ValueError, IndexError, OverflowError, struct.error)


def fill(
    rows: Sequence[FeatureRow], plan: HashPlan, answers: Sequence[HashValues], as_of_us: int
) -> None:
    """Fill each row from the answer for its key."""
    for row, answer in zip(rows, answers, strict=True):
        for view in plan.views:
            _fill_stored(row, view, answer, as_of_us)
    if plan.state is not None:
        _fill_computed(rows, plan.state, answers, as_of_us)


def fill_absent(row: FeatureRow, plan: HashPlan) -> None:
    """Fill a row for which there is no key to ask."""
    for view in plan.views:
        row.views[view.name] = Status.NOT_FOUND
        row.settle(view.refs, Status.NOT_FOUND)
    if plan.state is not None:
        row.views.update(dict.fromkeys(plan.state.views, Status.NOT_FOUND))
        row.settle(plan.state.refs, Status.NOT_FOUND)


def _fill_stored(row: FeatureRow, view: ViewPlan, answer: HashValues, as_of_us: int) -> None:
    stamp = answer[view.at]
    # A proto Timestamp of 1970-01-01T00:00:00 is empty, which is not absent.
    if stamp is None:
        outcome = Status.NOT_FOUND
    else:
        try:
            age_us = as_of_us - decode_timestamp(stamp)
            row.ages_s[view.name] = age_us / 1e6
            expired = view.ttl_us is not None and age_us > view.ttl_us
            outcome = Status.OUTSIDE_MAX_AGE if expired else Status.PRESENT
        except _UNREADABLE:
            outcome = Status.NULL_VALUE
            row.unreadable.extend(view.refs)
    row.views[view.name] = outcome
    if outcome is not Status.PRESENT:
        row.settle(view.refs, outcome)
        return
    kinds = zip(view.refs, view.texts, view.arrays, strict=True)
    for at, (ref, text, array) in enumerate(kinds, view.at + 1):
        raw = answer[at]
        try:
            value = None if raw is None else decode_array(raw) if array else _value(raw, text)
        except _UNREADABLE:
            value = None
            row.unreadable.append(ref)
        row.values[ref] = value
        if value is not None:
            row.statuses[ref] = Status.PRESENT
        else:
            # A field never written: a feature added since the row's last write.
            row.statuses[ref] = Status.NOT_FOUND if raw is None else Status.NULL_VALUE


def _value(raw: bytes, text: bool) -> Value:
    value = decode_value(raw)
    if isinstance(value, bytes) or (value is not None and isinstance(value, str) is not text):
        raise ValueError("a text where a number belongs, or the reverse")
    if type(value) is int and not -(2**63) <= value < 2**63:
        raise ValueError("more than 64 bits")
    return value


def _fill_computed(
    rows: Sequence[FeatureRow], plan: StatePlan, answers: Sequence[HashValues], as_of_us: int
) -> None:
    states: list[bytes | None] = []
    outcomes: list[Status] = []
    for row, answer in zip(rows, answers, strict=True):
        state, outcome = None, Status.NOT_FOUND
        stamp, raw = answer[plan.at], answer[plan.at + 1]
        if raw is not None:
            try:
                state, outcome = _state(raw), Status.PRESENT
                if stamp is not None:
                    age_s = (as_of_us - decode_timestamp(stamp)) / 1e6
                    row.ages_s.update(dict.fromkeys(plan.views, age_s))
            except _UNREADABLE:
                outcome = Status.NULL_VALUE
        states.append(state)
        outcomes.append(outcome)
    instants = np.full(len(states), as_of_us, np.int64)
    words, begins, ends = words_of(states)
    reader = plan.reader
    reader.evaluate(words, begins, ends, instants, len(states))
    texts = words.view(np.uint8)
    places = [(ref, reader.places[ref.partition(":")[2]]) for ref in plan.refs]
    for at, row in enumerate(rows):
        outcome = outcomes[at] if readable(reader.outcome[at]) else Status.NULL_VALUE
        row.views.update(dict.fromkeys(plan.views, outcome))
        if outcome is Status.NULL_VALUE:
            row.settle(plan.refs, outcome)
            row.unreadable.extend(plan.refs)
            for view in plan.views:
                row.ages_s.pop(view, None)
            continue
        values, statuses = row.values, row.statuses
        for ref, place in places:
            value = reader.value(place, at, texts)
            values[ref] = value
            if outcome is Status.NOT_FOUND:
                statuses[ref] = outcome
            else:
                statuses[ref] = Status.NULL_VALUE if value is None else Status.PRESENT


def _state(raw: bytes) -> bytes:
    value = decode_value(raw)
    if not isinstance(value, bytes) or not value:
        raise ValueError("a state is bytes, and some")
    return value
