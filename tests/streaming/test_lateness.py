from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from streaming.lateness import LatenessGate
from streaming.log.frames import Frame
from streaming.mapping.dead_letters import DeadLetters
from tests.streaming.made_events import START, batch_of, page_view


def names(frame: Frame | None) -> list[str]:
    return [] if frame is None else frame.events.column("event_id").to_pylist()


def test_events_beyond_the_lateness_become_dead_letters(tmp_path: Path) -> None:
    day = timedelta(hours=24)
    times = [START, START + day, START + timedelta(seconds=1), START, START + 2 * day]
    events = [page_view(number, at=time) for number, time in enumerate(times)]
    with DeadLetters(tmp_path / "late.jsonl") as letters:
        gate = LatenessGate(letters)
        assert names(gate.admit(Frame(0, 100, batch_of(events)))) == ["e0", "e1", "e2", "e4"]
        assert names(gate.admit(Frame(0, 105, batch_of(events[:1])))) == []
    lines = [json.loads(line) for line in (tmp_path / "late.jsonl").read_text().splitlines()]
    assert [(line["row"], line["field"], line["record"]["event_id"]) for line in lines] == [
        (103, "event_time", "e3"),
        (105, "event_time", "e0"),
    ]
    assert "24h" in lines[0]["reason"]


def test_how_the_log_is_cut_into_frames_does_not_matter(tmp_path: Path) -> None:
    times = [START + timedelta(hours=13 * ((7 * n) % 5)) for n in range(40)]
    events = [page_view(number, at=time) for number, time in enumerate(times)]
    results = []
    for rows in (1, 7, 40):
        with DeadLetters(tmp_path / f"{rows}.jsonl") as letters:
            gate = LatenessGate(letters)
            kept: list[str] = []
            for first in range(0, 40, rows):
                kept += names(gate.admit(Frame(0, first, batch_of(events[first : first + rows]))))
            results.append((kept, letters.count))
    assert results[0] == results[1] == results[2]
    assert 0 < results[0][1] < 40


def test_a_partition_that_is_ahead_does_not_make_the_others_late(tmp_path: Path) -> None:
    ahead = page_view(0, at=START + timedelta(days=30))
    with DeadLetters(tmp_path / "letters.jsonl") as letters:
        gate = LatenessGate(letters)
        assert names(gate.admit(Frame(0, 0, batch_of([ahead])))) == ["e0"]
        assert names(gate.admit(Frame(1, 0, batch_of([page_view(1)])))) == ["e1"]
        assert names(gate.admit(Frame(0, 1, batch_of([page_view(2)])))) == []


def test_a_live_event_from_the_future_does_not_make_the_others_late(tmp_path: Path) -> None:
    events = [page_view(0), page_view(1, at=START + timedelta(days=3)), page_view(2)]
    with DeadLetters(tmp_path / "live.jsonl") as letters:
        gate = LatenessGate(letters, now=lambda: START + timedelta(minutes=5))
        assert names(gate.admit(Frame(0, 0, batch_of(events)))) == ["e0", "e2"]
        assert letters.count == 1


def test_a_replay_may_be_of_any_age(tmp_path: Path) -> None:
    old = page_view(0, at=datetime(2001, 1, 1, tzinfo=UTC))
    with DeadLetters(tmp_path / "old.jsonl") as letters:
        assert names(LatenessGate(letters).admit(Frame(0, 0, batch_of([old])))) == ["e0"]
