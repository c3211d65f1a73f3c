"""The record of releases: who moved which alias, when, from what, to what, and why."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

AUDIT_FILE = "releases.jsonl"


class Change(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """One change of what serves.

    Attributes:
        at: when, ISO 8601, UTC.
        who: a person, a flow, or serving itself.
        model: registered model.
        action: promote, split, shadow, rollback; `rollback ordered` where it holds on this machine
            and the registry has still to be told.
        alias: the alias that moved.
        from_: the version that bore it (`from` in the file); None for none.
        to: the version that bears it; None for none.
        why: the reason.
        share: the challenger's share of the customers, for a split.
    """

    at: str
    who: str
    model: str
    action: str
    alias: str
    from_: str | None
    to: str | None
    why: str
    share: float | None = None


class Audit:
    """A file of JSON lines that only grows; several processes may write to it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, change: Change) -> None:
        """Append a line; it is on disk when this returns.

        Raises:
            OSError: the disk does not take it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # One write to a file opened for appending: lines of two processes do not mix.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, msgspec.json.encode(change) + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self) -> list[Change]:
        """Every change, the oldest first; a line that a crash cut short is left out."""
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            try:
                found.append(msgspec.json.decode(line, type=Change))
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
        return found
