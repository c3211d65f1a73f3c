"""Which online store a command writes to: the running one, or one of its own for the time being."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from feature_repo.contracts.settings import Settings
from infra.processes import answers
from infra.servers import VALKEY
from infra.stack import LocalStack
from infra.stack_file import settings_at


@contextmanager
def online_store(
    home: Path | None, *, embedded: bool, environ: Mapping[str, str] = os.environ
) -> Iterator[Settings]:
    """Settings whose online store answers, for the time of a command.

    In this order: the stack running at `home`; a store that answers at `DAIMA_REDIS`; a Valkey
    of the command's own (at once with `embedded`), which keeps its data in `home` for the next
    `daima up` there. The last is said on standard error.

    Raises:
        ProcessError: the command's own Valkey does not start.
    """
    settings, stack = settings_at(home, environ)
    if not embedded and (stack is not None or answers(settings.redis_address)):
        yield settings
        return
    if not embedded:
        print(
            f"daima: no online store at {settings.redis_address}; using an embedded Valkey, whose "
            f"data stay in {settings.home / 'valkey'} (daima up --no-traffic serves them)",
            file=sys.stderr,
            flush=True,
        )
    with LocalStack(settings.home, keep_store=True, environ=environ) as own:
        own.start(VALKEY)
        own.wait(VALKEY)
        yield own.settings
