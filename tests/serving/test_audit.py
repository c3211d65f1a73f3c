"""The record of releases grows by whole lines."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from serving.audit import Audit, Change

CHANGE = Change("2026-03-01T08:00:00+00:00", "ana", "m", "promote", "champion", "1", "2", "better")


def test_a_line_says_who_when_from_to_and_why(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "home" / "releases.jsonl")
    assert audit.read() == []
    audit.write(CHANGE)
    assert json.loads(audit.path.read_text()) == {
        "at": "2026-03-01T08:00:00+00:00",
        "who": "ana",
        "model": "m",
        "action": "promote",
        "alias": "champion",
        "from": "1",
        "to": "2",
        "why": "better",
        "share": None,
    }
    assert audit.read() == [CHANGE]


def test_writers_do_not_mix_their_lines_and_half_a_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "releases.jsonl"

    def write() -> None:
        for _ in range(25):
            Audit(path).write(CHANGE)

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    with path.open("a") as file:
        file.write('{"at": "2026')
    assert Audit(path).read() == [CHANGE] * 100
