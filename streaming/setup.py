"""What a run needs before its first event: the compiled set, and the files of its offline rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import redis

from feature_repo.contracts.errors import StoreUnavailableError
from feature_repo.contracts.events import EVENT_SCHEMA
from feature_repo.contracts.feature_set import EntityKey, FeatureSet, load_feature_set
from feature_repo.contracts.settings import Settings
from feature_repo.engine.program import Program, compile_program
from feature_repo.stores.redis_connection import connect
from streaming.lineage import Lineage
from streaming.log.frames import Partition
from streaming.sinks.offline import OfflineWriter
from streaming.store_generation import StoreGenerations


def check_store(settings: Settings) -> None:
    """Raise StoreUnavailableError unless the online store answers."""
    try:
        with connect(settings.redis) as client:
            client.ping()
    except redis.RedisError as error:
        raise StoreUnavailableError(
            "online store",
            settings.redis_address,
            "a Valkey or Redis server",
            "start one (make up), or set DAIMA_REDIS",
        ) from error


class Setup:
    """A feature set, compiled, and where its things are.

    Args:
        settings: name the set if it is not given.
        feature_set: what to compute.
        shards: partitions of each entity's stream.

    Attributes:
        programs, entities: by the entity's name.
        whole: the entity whose stream carries whole events.
    """

    def __init__(self, settings: Settings, feature_set: FeatureSet | None, shards: int) -> None:
        self.settings = settings
        self.feature_set = feature_set or load_feature_set(settings.definitions)
        self.shards = shards
        self.entities: Mapping[str, EntityKey] = {
            entity.name: entity for entity in self.feature_set.entities
        }
        self.programs: Mapping[str, Program] = {
            name: compile_program(self.feature_set, entity)
            for name, entity in self.entities.items()
        }
        self.folder = settings.checkpoints(self.feature_set.name)
        self.whole = self.feature_set.entities[0].name

    def partitions(self, shards: Iterable[int]) -> list[Partition]:
        """Partitions of these numbers, of every entity."""
        numbers = list(shards)
        return [(entity, shard) for entity in self.programs for shard in numbers]

    def generations(self, client: redis.Redis[bytes]) -> StoreGenerations:
        """The online store's count of generations."""
        return StoreGenerations(client, self._fingerprints())

    def lineage(self, client: redis.Redis[bytes]) -> Lineage:
        """Where the set's states come from."""
        return Lineage(self.folder, self._fingerprints(), self.shards, self.generations(client))

    def _fingerprints(self) -> dict[str, str]:
        return {name: program.fingerprint for name, program in self.programs.items()}


class OfflineTables:
    """The offline writers of one generation.

    Attributes:
        features: of each entity's rows.
        archive: of whole events.
    """

    def __init__(self, setup: Setup, generation: int) -> None:
        self._whole = setup.whole
        self.features = {
            name: OfflineWriter(setup.settings.features_table(name), program.row_schema, generation)
            for name, program in setup.programs.items()
        }
        self.archive = OfflineWriter(setup.settings.events_table, EVENT_SCHEMA, generation)

    def resume(self, partition: Partition, offset: int | None) -> None:
        """Remove the files that a partition has written after an offset; None: all of them."""
        entity, shard = partition
        self.features[entity].resume(shard, offset)
        if entity == self._whole:
            self.archive.resume(shard, offset)
