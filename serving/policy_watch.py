"""The policy that decides now, kept level with its file while the process runs."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from serving.policy import Policy, PolicyError
from serving.policy_file import load_policy, parse_policy

log = logging.getLogger(__name__)


class PolicyWatch:
    """Reads a policy file whenever it changes; a malformed one leaves the former deciding.

    The last good policy is kept in a file of its own, so that it also decides after a restart.

    Args:
        path: the file; where there is none at the start there are no decisions until there is.
        kept: where the last good policy is kept.
        clock: the present, as an aware datetime.

    Attributes:
        current: the policy that decides; None: no decisions. Replaced as a whole.
        since: when it was read.
        error: why the file as it stands now is refused; None if it is not.

    Trap: to end decisions, write `models: {}`; removing the file is taken for a mistake.
    """

    def __init__(self, path: Path, kept: Path, clock: Callable[[], datetime]) -> None:
        self.path = path
        self.current: Policy | None = None
        self.since: datetime | None = None
        self._clock = clock
        self.error: str | None = None
        self._kept = kept
        self._seen: tuple[int, int, int] | None = None

    def load(self) -> None:
        """Read the file for the first time.

        Raises:
            PolicyError: it is malformed, or gone, and no good one is kept from before.
        """
        if not self.path.exists() and not self._kept.exists():
            return
        try:
            self._read()
        except PolicyError as error:
            try:
                self._decide_by(parse_policy(self._kept.read_bytes()))
            except (OSError, PolicyError):
                raise error from None
            self._refuse(error)

    def refresh(self) -> None:
        """Read the file again if it has changed; nothing is raised."""
        if self.current is None and not self.path.exists():
            return
        if self._stamp() == self._seen:
            return
        try:
            self._read()
        except PolicyError as error:
            self._refuse(error)

    async def run(self, every: timedelta) -> None:
        """Look at the file again and again, until cancelled."""
        while True:
            await asyncio.sleep(every.total_seconds())
            self.refresh()

    def _read(self) -> None:
        self._seen = self._stamp()  # before the reading: what is written meanwhile is read again
        self._decide_by(load_policy(self.path))
        self.error = None
        try:
            self._keep()
        except OSError as error:  # it decides all the same
            log.warning("the policy cannot be kept for a restart: %s", error)

    def _decide_by(self, policy: Policy) -> None:
        self.current, self.since = policy, self._clock()
        log.info("policy %s decides", policy.fingerprint)

    def _keep(self) -> None:
        self._kept.parent.mkdir(parents=True, exist_ok=True)
        partial = self._kept.with_name(f".{self._kept.name}.partial")
        partial.write_bytes(self.path.read_bytes())
        partial.replace(self._kept)

    def _refuse(self, error: PolicyError) -> None:
        self.error = str(error)
        log.warning("policy refused, the former one stays: %s", error)

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
