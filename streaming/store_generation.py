"""The online store's count of generations, as a run sees it."""

from __future__ import annotations

from collections.abc import Mapping

import redis

from feature_repo.contracts.settings import PROJECT
from feature_repo.stores.generations import read_generation, start_generation
from streaming.checkpoints import RESTART, CheckpointError


class GenerationEndedError(CheckpointError):
    """A rebuild, or another run, has begun a new generation: this run's values are refused."""


class StoreGenerations:
    """Reads and starts generations of one store for one feature set.

    Args:
        client: the store.
        fingerprints: of the set's programs, by entity.
    """

    def __init__(
        self, client: redis.Redis[bytes], fingerprints: Mapping[str, str], project: str = PROJECT
    ) -> None:
        self._client = client
        self._fingerprints = dict(fingerprints)
        self._project = project

    def in_force(self) -> int | None:
        """The newest generation; None in a store that holds nothing of ours.

        Raises:
            CheckpointError: it is of other definitions.
        """
        found = read_generation(self._client, self._project)
        if found is None:
            return None
        if found.fingerprints != self._fingerprints:
            raise CheckpointError(
                "online store",
                "values of other definitions",
                "values of the definitions that run",
                f"start with those definitions, or {RESTART}",
            )
        return found.number

    def start(self, at_least: int) -> int:
        """Begin a new generation, numbered `at_least` or higher."""
        started = start_generation(
            self._client, self._project, self._fingerprints, at_least=at_least
        )
        return started.number

    def check(self, generation: int) -> None:
        """Raise GenerationEndedError unless a generation is in force."""
        in_force = self.in_force()
        if in_force != generation:
            raise GenerationEndedError(
                "online store",
                f"generation {in_force}",
                f"generation {generation}, in which this run writes",
                "start it again: it goes on in the new one",
            )
