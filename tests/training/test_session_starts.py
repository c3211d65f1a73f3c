from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from feature_repo.contracts.events import EVENT_SCHEMA
from feature_repo.contracts.features import FEATURE_SET
from feature_repo.engine.program import compile_program
from feature_repo.engine.shard import Shard
from tests.training.sessions import START, as_events, session_events
from training.session_starts import Happened, SessionStarts

FEATURES = ["session_channel_last", "previous_session_duration_s", "event_count_24h"]
MINUTE = timedelta(minutes=1)
Ended = tuple[str, int, int]  # customer, first and last event in µs


def batch(events: pl.DataFrame) -> pa.RecordBatch:
    return events.to_arrow().cast(EVENT_SCHEMA).combine_chunks().to_batches()[0]


def told(*events: tuple[str, str, float]) -> pa.RecordBatch:
    """Events of (customer, id, minutes after the start), in this order."""
    return batch(
        as_events(
            pl.DataFrame(
                {
                    "event_id": [each[1] for each in events],
                    "customer_id": [each[0] for each in events],
                    "event_time": [START + MINUTE * each[2] for each in events],
                    "event_type": ["login"] * len(events),
                }
            )
        )
    )


def read(events: pa.RecordBatch, rows: int) -> tuple[SessionStarts, list[Happened]]:
    starts = SessionStarts(FEATURE_SET, FEATURES)
    return starts, [starts.fold(0, events.slice(at, rows)) for at in range(0, len(events), rows)]


def closed(happened: Sequence[Happened]) -> list[tuple[str, int, float, int]]:
    """Customer, first event, seconds and the place of closing, in the order of closing."""
    begun = {
        int(place): (customer, int(at))
        for each in happened
        for place, customer, at in zip(each.begun, each.customers, each.began_us, strict=True)
    }
    return [
        (*begun[int(place)], float(seconds), int(at))
        for each in happened
        for place, at, seconds in zip(each.closed, each.closed_at, each.duration_s, strict=True)
    ]


def disordered(sessions: int, customers: int) -> pl.DataFrame:
    """A log in which events come up to 50 minutes late, and some twice."""
    events = session_events(sessions, customers, days=3, seed=5)
    rng = np.random.default_rng(3)
    late_us = np.where(rng.random(events.height) < 0.2, rng.integers(0, 3_000_000_000), 0)
    events = (
        events.with_columns(at=pl.col("event_time").dt.epoch("us") + pl.Series(late_us))
        .sort("at", maintain_order=True)
        .drop("at")
        .with_row_index()
    )
    again = events.sample(fraction=0.05, seed=1)
    return pl.concat([events, again]).sort("index", maintain_order=True).drop("index")


def slowly(events: pl.DataFrame) -> set[Ended]:
    """Every session of a log, by two loops."""
    times: dict[str, set[tuple[int, str]]] = {}
    for customer, ident, at in events.select(
        "customer_id", "event_id", pl.col("event_time").dt.epoch("us")
    ).iter_rows():
        times.setdefault(customer, set()).add((at, ident))
    found = set()
    for customer, seen in times.items():
        run: list[int] = []
        for at, _ in sorted(seen):
            if run and at - run[-1] > 30 * 60 * 1_000_000:
                found.add((customer, run[0], run[-1]))
                run = []
            run.append(at)
        found.add((customer, run[0], run[-1]))
    return found


def test_sessions_are_those_that_two_loops_find() -> None:
    events = disordered(2_000, 150)
    starts, happened = read(batch(events), 997)
    assert starts.late == 0
    known = {(customer, seconds) for customer, _, seconds, _ in closed(happened)}
    slow = slowly(events)
    newest = events["event_time"].dt.epoch("us").max()
    assert isinstance(newest, int)
    over = {
        (customer, (last - first) / 1e6)
        for customer, first, last in slow
        if last + 90 * 60 * 1_000_000 <= newest
    }
    assert known == over
    assert sum(len(each.closed) for each in happened) > 1_500
    assert starts.open == len(slow) - sum(len(each.closed) for each in happened) > 0


@pytest.mark.parametrize("rows", [1, 61, 100_000])
def test_how_the_log_is_cut_changes_nothing(rows: int) -> None:
    events = batch(disordered(150, 12))
    _, cut = read(events, rows)
    _, other = read(events, 17)
    assert closed(cut) == closed(other)
    assert len(closed(cut)) > 50
    closing = np.concatenate([each.closed for each in cut])
    features = [
        pl.concat([each.features.with_columns(place=each.begun) for each in side])
        .filter(pl.col("place").is_in(closing))
        .sort("place")
        for side in (cut, other)
    ]
    assert features[0].equals(features[1])


def test_features_are_those_of_the_first_event() -> None:
    events = batch(session_events(400, 40, days=3, seed=9))
    _, happened = read(events, 5_000)
    shard = Shard(compile_program(FEATURE_SET, FEATURE_SET.entities[0]))
    keys = pa.array([name for each in happened for name in each.customers], pa.string())
    at_us = np.concatenate([each.began_us for each in happened])
    asked = pl.DataFrame(pl.from_arrow(shard.ask(events, keys, at_us).select(FEATURES)))
    given = pl.concat([each.features for each in happened])
    assert given.equals(asked)
    assert given["previous_session_duration_s"].null_count() < given.height


def test_a_session_closes_after_half_an_hour_and_what_may_come_late() -> None:
    events = told(("a", "1", 0), ("a", "2", 10), ("b", "3", 99.9), ("b", "4", 100), ("b", "5", 101))
    starts, happened = read(events, 1)
    assert [each.closed.tolist() for each in happened] == [[], [], [], [0], []]
    assert happened[3].duration_s.tolist() == [600.0]
    assert starts.open == 1


def test_a_late_event_prolongs_and_joins() -> None:
    # The second of a's seems to be another session, until what lay between comes.
    events = told(("a", "1", 0), ("a", "2", 45), ("a", "3", 20), ("b", "4", 300))
    _, happened = read(events, 1)
    assert [each.begun.tolist() for each in happened] == [[0], [1], [], [3]]
    assert happened[2].joined.tolist() == [1]
    assert closed(happened)[0][2] == 45 * 60
    _, at_once = read(events, 4)
    assert closed(at_once) == closed(happened)


def test_what_comes_too_late_is_left_out() -> None:
    starts, happened = read(told(("a", "1", 0), ("b", "2", 70), ("a", "3", 5)), 10)
    assert starts.late == 1
    assert [len(each.closed) for each in happened] == [0]
    assert starts.open == 2
    assert starts.events == 2


def test_repeated_events_and_such_outside_sessions_prolong_nothing() -> None:
    events = told(("a", "1", 0), ("a", "1", 25), ("a", "2", 29), ("b", "3", 200))
    kinds = pa.array(["login", "login", "support_contact", "login"])
    events = events.set_column(3, EVENT_SCHEMA.field("event_type"), kinds)
    starts, happened = read(events, 10)
    assert closed(happened) == [("a", int(START.timestamp() * 1e6), 0.0, 3)]
    assert starts.events == 2


def test_sessions_from_before_the_start_do_not_count_but_their_events_do() -> None:
    starts = SessionStarts(FEATURE_SET, FEATURES, start=START + 50 * MINUTE)
    events = told(("a", "1", 40), ("a", "2", 60), ("a", "3", 100), ("b", "4", 300))
    happened = starts.fold(0, events)
    assert happened.begun.tolist() == [2, 3], "the first goes on beyond the start, as one session"
    assert happened.features["previous_session_duration_s"].to_list() == [20 * 60, None]
    assert happened.features["event_count_24h"].to_list() == [3, 1]


def test_partitions_have_watermarks_of_their_own() -> None:
    starts = SessionStarts(FEATURE_SET, FEATURES)
    assert starts.fold(1, told(("b", "1", 500))).begun.tolist() == [0]
    behind = starts.fold(0, told(("a", "2", 0), ("a", "3", 5)))
    assert (starts.late, behind.begun.tolist(), behind.closed.tolist()) == (0, [1], [])
    assert starts.fold(1, told(("b", "4", 700))).closed.tolist() == [0]
    assert starts.fold(0, told(("c", "5", 95))).closed.tolist() == [1]
