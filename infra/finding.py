"""What a check of `daima doctor` says: what was looked at, how it is, and how to mend it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from feature_repo.contracts.settings import Settings

# How to mend it, where a server is away.
UP = "start it: daima up (its data stay), or set {variable}"


class Level(StrEnum):
    """How bad it is: a warning is worth a look, a problem keeps something from working."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        check: what was looked at.
        found: what is there.
        mend: what to do; empty where all is well.
    """

    check: str
    level: Level
    found: str
    mend: str = ""


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, Level.OK, found)


def warning(check: str, found: str, mend: str) -> Finding:
    """Worth a look."""
    return Finding(check, Level.WARNING, found, mend)


def problem(check: str, found: str, mend: str) -> Finding:
    """Something does not work."""
    return Finding(check, Level.PROBLEM, found, mend)


Check = Callable[[Settings, Mapping[str, str]], Iterator[Finding]]
