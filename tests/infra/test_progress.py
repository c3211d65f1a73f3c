"""Progress: plain lines at a modest rate where there is no terminal."""

from __future__ import annotations

import io

import pytest

from infra.progress import reporting


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_come_every_five_seconds_and_at_the_end() -> None:
    stream, clock = io.StringIO(), Clock()
    with reporting(stream, clock) as reporter, reporter.step("Streaming", 10_000) as step:
        for _ in range(12):
            clock.now_s += 1
            step.advance(500)
        step.note("6,000 events")
    assert stream.getvalue().splitlines() == [
        "Streaming: 2,500 of 10,000 (25%), 5 s",
        "Streaming: 5,000 of 10,000 (50%), 10 s",
        "Streaming: 6,000 events 12.0 s",
    ]


def test_a_step_without_a_total_says_that_it_goes_on() -> None:
    stream, clock = io.StringIO(), Clock()
    with reporting(stream, clock) as reporter, reporter.step("Waiting") as step:
        clock.now_s += 6
        step.advance(0)
    assert stream.getvalue().splitlines() == ["Waiting: 6 s", "Waiting: done 6.0 s"]


def test_a_step_that_fails_says_so() -> None:
    stream, clock = io.StringIO(), Clock()
    with (
        pytest.raises(ValueError, match="broken"),
        reporting(stream, clock) as reporter,
        reporter.step("Streaming", 10),
    ):
        raise ValueError("broken")
    assert stream.getvalue() == "Streaming: failed after 0.0 s\n"


def test_a_terminal_gets_bars_and_a_line_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    with reporting(stream) as reporter, reporter.step("Streaming", 10) as step:
        step.advance(10)
        step.note("10 events")
    assert "Streaming" in stream.getvalue()
    assert "10 events" in stream.getvalue()
