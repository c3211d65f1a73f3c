"""Whatever stands in the log, good events get in and the others are set aside."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from feature_repo.contracts.events import EVENT_SCHEMA
from feature_repo.contracts.features import FEATURE_SET
from feature_repo.engine.program import Program, compile_program
from feature_repo.engine.projection import project
from streaming.admission import Admission
from streaming.log.frames import Frame, Unreadable
from streaming.mapping.dead_letters import DeadLetters
from streaming.updates import Admitted
from tests.streaming.made_events import START, batch_of, page_view, payment

Entries = list[Frame | Unreadable]


@pytest.fixture(scope="module")
def programs() -> dict[str, Program]:
    return {entity.name: compile_program(FEATURE_SET, entity) for entity in FEATURE_SET.entities}


@pytest.fixture
def admit(tmp_path: Path, programs: dict[str, Program]) -> Callable[..., Any]:
    """Entries in; (what was admitted, letters, events set aside elsewhere, counts) out."""

    def run(*polls: Entries) -> tuple[list[Admitted], list[dict[str, Any]], int, int]:
        path, counts = tmp_path / "letters.jsonl", [0]
        with DeadLetters(path) as letters:
            admission = Admission(FEATURE_SET, programs, letters, admitted=counts.append)
            admitted = [batch for poll in polls for batch in admission.admit(poll)]
        lines = path.read_text().splitlines() if path.exists() else []
        return admitted, [json.loads(line) for line in lines], admission.set_aside, sum(counts)

    return run


def frame(events: pa.RecordBatch, offset: int = 10, partition: int = 3) -> Frame:
    return Frame("customer", partition, offset, events)


def ids(admitted: list[Admitted]) -> list[list[str]]:
    return [batch.events.column("event_id").to_pylist() for batch in admitted]


def with_value(
    batch: pa.RecordBatch, field: str, value: object, schema: pa.Schema = EVENT_SCHEMA
) -> pa.RecordBatch:
    """A batch with one field changed, as no honest producer would send it."""
    place = schema.get_field_index(field)
    column = pa.array([value] * len(batch), schema.field(field).type)
    return pa.RecordBatch.from_arrays(
        [*batch.columns[:place], column, *batch.columns[place + 1 :]], schema=schema
    )


NOT_UTF8 = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff"))


def bad(name: str) -> pa.RecordBatch:  # noqa: PLR0911 - one for each way
    one = batch_of([page_view(7)])
    match name:
        case "unknown type":
            return with_value(one, "event_type", "refund")
        case "year 148000":
            return with_value(one, "event_time", 2**62)
        case "no id":
            return with_value(one, "event_id", None)
        case "no customer":
            return with_value(one, "customer_id", None)
        case "not utf-8":
            return one.set_column(4, EVENT_SCHEMA.field("page"), NOT_UTF8)
        case "columns in another order":
            names = {"page": "channel", "channel": "page"}
            return one.select([names.get(name, name) for name in EVENT_SCHEMA.names])
    return pa.record_batch({"event_id": [1]})


@pytest.mark.parametrize(
    "name",
    [
        "unknown type", "year 148000", "no id", "no customer", "not utf-8", "other columns",
        "columns in another order",
    ],
)  # fmt: skip
def test_a_bad_frame_is_a_dead_letter_and_the_good_ones_around_it_get_in(
    admit: Callable[..., Any], name: str
) -> None:
    before, after = batch_of([page_view(0), page_view(1)]), batch_of([page_view(2)])
    admitted, letters, aside, count = admit(
        [frame(before, 10), frame(bad(name), 11), frame(after, 12)]
    )
    assert ids(admitted) == [["e0", "e1", "e2"]]
    assert (admitted[0].first_offset, admitted[0].last_offset) == (10, 12)
    assert admitted[0].events.schema == EVENT_SCHEMA
    assert (len(letters), aside, count) == (1, 0, 3)
    assert letters[0]["reason"]
    assert letters[0]["row"] == 11


def test_what_is_no_frame_is_a_dead_letter_with_its_place(admit: Callable[..., Any]) -> None:
    admitted, letters, _, _ = admit([Unreadable("customer", 3, 9, "gibberish", "an Arrow stream")])
    assert admitted == []
    assert letters[0]["value"] == "gibberish"
    assert letters[0]["record"] == {"entity": "customer", "partition": 3, "offset": 9}


def test_frames_without_rows_are_nothing(admit: Callable[..., Any]) -> None:
    assert admit([frame(batch_of([]))]) == ([], [], 0, 0)


def test_late_events_are_dead_letters_by_their_place(admit: Callable[..., Any]) -> None:
    hours = [0, 2, 0, 2]
    events = [page_view(n, at=START + timedelta(hours=h)) for n, h in enumerate(hours)]
    admitted, letters, _, count = admit([frame(batch_of(events), 103)])
    assert ids(admitted) == [["e0", "e1", "e3"]]
    assert [(line["row"], line["field"]) for line in letters] == [(102, "event_time")]
    assert letters[0]["record"]["event_id"] == "e2"
    assert "1h older" in letters[0]["reason"]
    assert count == 3


def test_bad_and_late_events_keep_their_places(admit: Callable[..., Any]) -> None:
    late = batch_of([page_view(n, at=START + timedelta(hours=h)) for n, h in ((1, 2), (2, 0))])
    _, letters, _, _ = admit([frame(bad("no id"), 11), frame(late, 13)])
    assert sorted(line["row"] for line in letters) == [11, 13]


def test_partitions_are_apart(admit: Callable[..., Any]) -> None:
    far = batch_of([page_view(0, at=START + timedelta(days=9))])
    near = batch_of([page_view(1)])
    admitted, letters, _, _ = admit([frame(far, 5, 0), frame(near, 5, 1)], [frame(near, 6, 0)])
    assert [(batch.partition, batch.last_offset) for batch in admitted] == [(0, 5), (1, 5)]
    assert len(letters) == 1


def part_frame(events: pa.RecordBatch, program: Program, offset: int) -> Frame:
    return Frame(program.entity.name, 0, offset, events)


def test_parts_of_events_are_let_in_or_counted(
    admit: Callable[..., Any], programs: dict[str, Program]
) -> None:
    program = programs["corridor"]
    parts = project(program, batch_of([payment(0), payment(1)]))
    late = project(program, batch_of([payment(-120)]))
    schema = program.frame_schema
    admitted, letters, aside, count = admit(
        [
            part_frame(parts, program, 1),
            part_frame(with_value(parts, "event_id", None, schema), program, 2),
            part_frame(with_value(parts, "receive_country", None, schema), program, 3),
            part_frame(with_value(parts, "event_time", 2**62, schema), program, 4),
            part_frame(batch_of([payment(2)]), program, 5),  # as JSON comes: all columns
            part_frame(batch_of([payment(3)]).drop_columns(["send_country"]), program, 6),
            part_frame(late, program, 7),
        ]
    )
    assert ids(admitted) == [["e0", "e1", "e2"]]
    assert admitted[0].events.schema == schema
    assert admitted[0].last_offset == 7
    assert (letters, aside, count) == ([], 8, 0)
