"""What must hold of the engine for every case: live, backfill and read-time equal the oracle.

Each check raises AssertionError with the feature, the values and where they differ.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from feature_repo.contracts.events import EventType, to_epoch_us
from feature_repo.engine.folded import Folded
from feature_repo.engine.program import Program, compile_program
from feature_repo.engine.projection import project
from feature_repo.engine.read import read_states
from feature_repo.engine.shard import Shard
from tests.feature_repo.engine.cases import Case, batch_of, instants
from tests.feature_repo.engine.oracle import (
    Row,
    features_at,
    features_of_event,
    key_of,
    log_time_us,
    tiled_features_at,
)
from tests.feature_repo.engine.oracle_aggregates import Record

_US = timedelta(microseconds=1)
_ASKED = 6
# One of each entity's keys first, so that few questions go to a key of another entity.
_KEYS = ["a", "x", "GB-NG", "b", "y", "GB-KE"]


@dataclass
class Live:
    """What came out of a shard: the last row of each (key, event id), the last state of each key.

    `times_us`: newest log time of each key.
    """

    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    states: dict[str, bytes] = field(default_factory=dict)
    times_us: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0

    def take(self, folded: Folded, program: Program, events: pa.RecordBatch) -> None:
        """Add a batch's rows and states, after holding them to what `Folded` promises."""
        given = events.to_pylist()
        new = []
        for row, source in zip(folded.rows.to_pylist(), folded.source.tolist(), strict=True):
            key = row.pop(program.entity.join_key)
            if source >= 0:
                record = given[source]
                new.append(source)
                found = (row["event_id"], key, row["event_timestamp"])
                assert found == (
                    record["event_id"], key_of(program.entity, record), record["event_time"]
                )  # fmt: skip
            self.rows[key, row["event_id"]] = row
        assert new == sorted(set(new)), "rows of new events stand in the log's order, once each"
        keys = folded.keys.to_pylist()
        assert len(keys) == len(set(keys))
        self.states |= dict(zip(keys, folded.states.to_pylist(), strict=True))
        self.times_us |= dict(zip(keys, folded.times_us.tolist(), strict=True))
        self.duplicates += folded.duplicates


def run_live(case: Case, program: Program, restart_after: int = -1) -> Live:
    """Fold the case batch by batch; `restart_after`: by way of a snapshot after that batch."""
    shard, live = Shard(program), Live()
    for number, records in enumerate(case.batches):
        events = project(program, batch_of(records))
        live.take(shard.fold(events), program, events)
        if number == restart_after:
            kept = pickle.dumps(shard.snapshot())
            shard = Shard.restore(program, pickle.loads(kept))  # noqa: S301
    return live


def check_case(case: Case) -> None:
    """Everything, for a set without tiles."""
    program = compile_program(case.feature_set, case.entity)
    live = run_live(case, program)
    check_rows(case, program, live)
    check_reads(case, program, live)
    check_restart(case, program, live)
    check_backfill(case.without_turns(), program)
    check_questions(case.without_turns(), program)


def check_tiled_case(case: Case) -> None:
    """Everything that holds of tiles: rows and questions as of arrival, states of any batching."""
    program = compile_program(case.feature_set, case.entity)
    live = run_live(case, program)
    check_tiled_rows(case, program, live)
    check_tiled_reads(case, program, live)
    check_restart(case, program, live)
    check_tiled_questions(case.without_turns(), program)
    whole = run_live(replace(case, cuts=(len(case.arrived),)), program)
    assert whole.states == live.states, "states depend on the batches"


def relevant(case: Case, program: Program) -> list[Record]:
    """The events that reach the engine: those that some feature may use."""
    return [r for r in case.arrived if r["event_type"] in program.event_types]


def check_rows(case: Case, program: Program, live: Live) -> None:
    """The last row of each event equals the oracle's, and there is one for each, labels apart."""
    records = relevant(case, program)
    views = case.feature_set.views
    expected: dict[tuple[str, str], Row] = {}
    seen: set[tuple[str, str]] = set()
    keyed = 0
    for place, record in enumerate(records):
        key = key_of(case.entity, record)
        if key is None:
            continue
        keyed += 1
        if (key, record["event_id"]) in seen:
            continue
        seen.add((key, record["event_id"]))
        if record["event_type"] != EventType.LABEL:
            expected[key, record["event_id"]] = features_of_event(views, records, place)
    assert set(live.rows) == set(expected), "one row an event, none for labels"
    assert live.duplicates == keyed - len(seen)
    for at, row in expected.items():
        hold(program, live.rows[at], row, f"row of {at}")
    times: dict[str, int] = {}
    for record in records:
        key = key_of(case.entity, record)
        if key is not None and (key, record["event_id"]) in seen:
            seen.remove((key, record["event_id"]))
            times[key] = max(log_time_us(record), times.get(key, 0))
    assert live.times_us == times
    assert set(live.states) == set(times)


def check_reads(case: Case, program: Program, live: Live) -> None:
    """Read-time evaluation of the final states equals the oracle, from `lateness` before on."""
    records = relevant(case, program)
    keys: list[str] = []
    at_us: list[int] = []
    for key in [*sorted(live.states), "nobody"]:
        newest = [log_time_us(r) for r in records if key_of(case.entity, r) == key]
        newest = newest or [log_time_us(case.arrived[0])]
        asked = instants(case, len(records), _ASKED, max(newest) - case.lateness_us)
        keys += [key] * len(asked)
        at_us += asked
    found = read_states(program, [live.states.get(key) for key in keys], np.array(at_us))
    assert found.schema == program.feature_schema
    for key, at, row in zip(keys, at_us, found.to_pylist(), strict=True):
        expected = features_at(case.feature_set.views, records, key, at)
        hold(program, row, expected, f"state of {key} read at {_text(at)}")


def check_questions(case: Case, program: Program) -> None:
    """A shard asked between batches and within them equals the oracle."""
    shard = Shard(program)
    so_far: list[Record] = []
    watermark_us = -1
    for number, records in enumerate(case.batches):
        so_far += [r for r in records if r["event_type"] in program.event_types]
        floor_us = log_time_us(case.arrived[0]) if watermark_us < 0 else watermark_us
        at_us = instants(case, number, _ASKED, floor_us - case.lateness_us)
        keys = [_KEYS[at % len(_KEYS)] for at in range(len(at_us))]
        found = shard.ask(
            project(program, batch_of(records)), pa.array(keys, pa.string()), np.array(at_us)
        )
        watermark_us = max([watermark_us, *map(log_time_us, records)])
        assert found.schema == program.feature_schema
        for key, at, row in zip(keys, at_us, found.to_pylist(), strict=True):
            expected = features_at(case.feature_set.views, so_far, key, at)
            hold(program, row, expected, f"{key} asked at {_text(at)} with batch {number}")


def check_tiled_rows(case: Case, program: Program, live: Live) -> None:
    """The row of each event equals the tiles' oracle over what had arrived up to it."""
    records = relevant(case, program)
    expected: dict[tuple[str, str], Row] = {}
    for place, record in enumerate(records):
        key = key_of(case.entity, record)
        if key is not None and (key, record["event_id"]) not in expected:
            at_us = to_epoch_us(record["event_time"])
            so_far = records[: place + 1]
            row = tiled_features_at(case.feature_set.views, so_far, key, at_us)
            expected[key, record["event_id"]] = row
    assert set(live.rows) == set(expected)
    for at, row in expected.items():
        hold(program, live.rows[at], row, f"row of {at}")


def check_tiled_reads(case: Case, program: Program, live: Live) -> None:
    """Read-time evaluation of the final states equals the tiles' oracle."""
    records = relevant(case, program)
    for key, state in live.states.items():
        newest_us = max(log_time_us(r) for r in records if key_of(case.entity, r) == key)
        at_us = instants(case, len(key), _ASKED, newest_us - case.lateness_us)
        found = read_states(program, [state] * len(at_us), np.array(at_us))
        for at, row in zip(at_us, found.to_pylist(), strict=True):
            expected = tiled_features_at(case.feature_set.views, records, key, at)
            hold(program, row, expected, f"state of {key} read at {_text(at)}")


def check_tiled_questions(case: Case, program: Program) -> None:
    """A shard asked equals the tiles' oracle over what was in the log by then."""
    shard = Shard(program)
    before: list[Record] = []
    for number, records in enumerate(case.batches):
        new = [r for r in records if r["event_type"] in program.event_types]
        floor_us = max(map(log_time_us, before), default=log_time_us(case.arrived[0]))
        at_us = instants(case, number, _ASKED, floor_us - case.lateness_us)
        keys = [_KEYS[at % len(_KEYS)] for at in range(len(at_us))]
        found = shard.ask(
            project(program, batch_of(records)), pa.array(keys, pa.string()), np.array(at_us)
        )
        for key, at, row in zip(keys, at_us, found.to_pylist(), strict=True):
            so_far = before + [r for r in new if log_time_us(r) <= at]
            expected = tiled_features_at(case.feature_set.views, so_far, key, at)
            hold(program, row, expected, f"{key} asked at {_text(at)} with batch {number}")
        before += new


def check_restart(case: Case, program: Program, live: Live) -> None:
    """A snapshot in the middle changes nothing."""
    again = run_live(case, program, restart_after=(len(case.cuts) - 1) // 2)
    assert again == live


def check_backfill(case: Case, program: Program) -> None:
    """The log in one go gives the oracle's rows, and live's states bit for bit."""
    in_order = case.in_log_order()
    whole = run_live(in_order, program)
    check_rows(in_order, program, whole)
    live = run_live(case, program)
    for key, state in live.states.items():
        assert whole.states[key] == state, f"state of {key} depends on the order of arrival"


def hold(program: Program, found: Mapping[str, Any], expected: Row, where: str) -> None:
    """Hold one row to the oracle's: ints and texts exactly, floats to 1e-9."""
    wrong = []
    for output in program.outputs:
        value, wanted = found[output.name], expected[output.name]
        if not _same(value, wanted):
            wrong.append(f"{output.name} is {value!r}, not {wanted!r}")
    assert not wrong, f"{where}: " + "; ".join(wrong)


def _same(value: Any, wanted: Any) -> bool:
    if isinstance(value, float) and wanted is not None:
        return math.isclose(value, wanted, rel_tol=1e-9, abs_tol=1e-9)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return isinstance(wanted, Sequence) and list(value) == list(wanted)
    return bool(value == wanted)


def _text(at_us: int) -> str:
    return str(datetime(1970, 1, 1, tzinfo=UTC) + at_us * _US)
