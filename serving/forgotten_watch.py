"""Customers forgotten while the server runs: what it remembers of them goes too."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta

from feature_repo.contracts.errors import DaimaError
from feature_repo.stores.forgotten import Forgotten, ForgottenFile

log = logging.getLogger(__name__)

EVERY = timedelta(seconds=1)


async def watch_forgotten(
    tombstones: ForgottenFile, forget: Callable[[Forgotten], None], every: timedelta = EVERY
) -> None:
    """Call `forget` whenever the tombstones have changed, until cancelled.

    Looking costs 2 µs a second; a file that cannot be read is looked at again.
    """
    seen: Forgotten | None = None
    while True:
        try:
            found = tombstones.read()
            if found is not seen:
                forget(found)
                seen = found
        except (DaimaError, OSError) as error:
            log.warning("%s", error)
        await asyncio.sleep(every.total_seconds())
