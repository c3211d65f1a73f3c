"""`daima env`: the settings of the running stack, or the defaults, as lines for a shell."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from infra.stack import client_environment
from infra.stack_file import settings_at


def export_lines(home: Path | None, environ: Mapping[str, str] = os.environ) -> list[str]:
    """`export NAME=value` lines, quoted for a POSIX shell; a running stack's own where one runs."""
    settings, stack = settings_at(home, environ)
    variables = stack.environment if stack else client_environment(settings)
    return [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
