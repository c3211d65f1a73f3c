from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from streaming.mapping.dead_letters import DeadLetter, DeadLetters


def letter(
    value: object = 1, row: int = 3, field: str = "page", reason: str = "text"
) -> DeadLetter:
    return DeadLetter(row, field, value, reason, {"a": value})


def test_letters_are_json_lines_and_counted(tmp_path: Path) -> None:
    with DeadLetters(tmp_path / "dead" / "clicks.jsonl") as letters:
        letters.extend([letter(), letter(field="currency")])
        letters.extend([letter(row=9)])
        assert not letters.path.exists()  # not before it is whole
    assert letters.count == 3
    assert letters.by_reason == {("page", "text"): 2, ("currency", "text"): 1}
    lines = [json.loads(line) for line in letters.path.read_text().splitlines()]
    assert lines[0] == {"row": 3, "field": "page", "value": 1, "reason": "text", "record": {"a": 1}}
    assert [line["row"] for line in lines] == [3, 3, 9]
    assert [path.name for path in letters.path.parent.iterdir()] == ["clicks.jsonl"]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (b"caf\xe9", "caf\\xe9"),
        ("a\udce9", "a\\udce9"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (2**70, 2**70),
        (Decimal("1.20"), "1.20"),
        (datetime(2024, 1, 2, tzinfo=UTC), "2024-01-02T00:00:00Z"),
        (date(2024, 1, 2), "2024-01-02"),
        (timedelta(seconds=1), "PT1S"),
        ([b"\xff", None, True], ["\\xff", None, True]),
        ({b"\xff": 1}, {"\\xff": 1}),
    ],
)
def test_any_value_can_be_written(tmp_path: Path, value: object, written: object) -> None:
    with DeadLetters(tmp_path / "x.jsonl") as letters:
        letters.extend([letter(value)])
    line = json.loads(letters.path.read_text("utf-8"))
    assert line["value"] == written
    assert line["record"] == {"a": written}


def test_a_rerun_replaces_the_file(tmp_path: Path) -> None:
    for row in (1, 2):
        with DeadLetters(tmp_path / "x.jsonl") as letters:
            letters.extend([letter(row=row)])
    assert [json.loads(line)["row"] for line in letters.path.read_text().splitlines()] == [2]


def test_a_rerun_without_bad_rows_removes_the_file(tmp_path: Path) -> None:
    with DeadLetters(tmp_path / "x.jsonl") as letters:
        letters.extend([letter()])
    with DeadLetters(tmp_path / "x.jsonl"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_run_that_fails_keeps_the_file_of_the_run_before(tmp_path: Path) -> None:
    def fail() -> None:
        with DeadLetters(tmp_path / "x.jsonl") as letters:
            letters.extend([letter(row=2)])
            raise KeyboardInterrupt

    with DeadLetters(tmp_path / "x.jsonl") as letters:
        letters.extend([letter(row=1)])
    with pytest.raises(KeyboardInterrupt):
        fail()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.failed.jsonl", "x.jsonl"]
    assert json.loads(letters.path.read_text())["row"] == 1
    assert json.loads(letters.failed_path.read_text())["row"] == 2


def test_a_run_that_fails_without_letters_leaves_everything_alone(tmp_path: Path) -> None:
    with DeadLetters(tmp_path / "x.jsonl") as letters:
        letters.extend([letter(row=1)])
    with pytest.raises(KeyboardInterrupt), DeadLetters(tmp_path / "x.jsonl"):
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]


def rows_in(path: Path) -> list[int]:
    return [json.loads(line)["row"] for line in path.read_text().splitlines()]


def test_letters_of_a_live_run_can_be_read_while_it_goes_on(tmp_path: Path) -> None:
    with DeadLetters(tmp_path / "dead" / "live.jsonl", live=True) as letters:
        letters.extend([])
        assert not letters.path.exists()
        letters.extend([letter(row=1), letter(row=2)])
        assert rows_in(letters.path) == [1, 2]
        letters.extend([letter(row=3)])
        assert rows_in(letters.path) == [1, 2, 3]
    assert rows_in(letters.path) == [1, 2, 3]
    assert letters.count == 3
    assert [path.name for path in letters.path.parent.iterdir()] == ["live.jsonl"]


def test_letters_of_a_live_run_stay_whatever_happens(tmp_path: Path) -> None:
    def fail() -> None:
        with DeadLetters(tmp_path / "live.jsonl", live=True) as letters:
            letters.extend([letter(row=1)])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    with DeadLetters(tmp_path / "live.jsonl", live=True) as letters:
        letters.extend([letter(row=2)])
    with DeadLetters(tmp_path / "live.jsonl", live=True):
        pass  # without letters
    assert rows_in(letters.path) == [1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["live.jsonl"]
