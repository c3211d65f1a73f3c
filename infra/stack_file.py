"""`stack.json`: where a running local stack says what it is, for the other commands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from feature_repo.contracts.settings import Settings
from infra.processes import is_alive

STACK_FILE = "stack.json"


@dataclass(frozen=True)
class StackFile:
    """What a running stack says of itself.

    Attributes:
        pid: the process that owns the stack.
        started: ISO instant of its start, UTC.
        environment: variables under which every client finds its servers.
        urls: pages and addresses by name.
        pids: guards of its servers by name.
    """

    pid: int
    started: str
    environment: dict[str, str]
    urls: dict[str, str]
    pids: dict[str, int]

    @property
    def settings(self) -> Settings:
        """The settings that this stack stands for."""
        return Settings.from_env(self.environment)

    def write(self, home: Path) -> None:
        """Write `home/stack.json` in one step: readers see the old file or the new one."""
        draft = home / f"{STACK_FILE}.new"
        draft.write_text(json.dumps(asdict(self), indent=1) + "\n")
        draft.replace(home / STACK_FILE)


def read_stack_file(home: Path) -> StackFile | None:
    """The stack that runs at `home`, or None; the file of a stack that is gone counts as none."""
    try:
        raw = json.loads((home / STACK_FILE).read_text())
        stack = StackFile(**raw)
    except (OSError, ValueError, TypeError):
        return None
    return stack if is_alive(stack.pid) else None


def now_iso(now: datetime) -> str:
    """An instant for the file, whole seconds."""
    return now.isoformat(timespec="seconds")


def settings_at(home: Path | None, environ: Mapping[str, str]) -> tuple[Settings, StackFile | None]:
    """Settings for a command: those of the stack running at `home`, else the environment's.

    Args:
        home: folder named on the command line; None takes `DAIMA_HOME` or the default.
        environ: the environment; a variable set in it wins only where no stack runs.
    """
    plain = Settings.from_env({**environ, **({"DAIMA_HOME": str(home)} if home else {})})
    stack = read_stack_file(plain.home)
    return (stack.settings, stack) if stack else (plain, None)
