"""The live logs that a stream can read: which one, how to open it, and how long it keeps events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

import redis
from redis.exceptions import ResponseError

from feature_repo.contracts.feature_set import FeatureSet, load_feature_set
from feature_repo.contracts.settings import SHARDS, Settings
from feature_repo.stores.redis_connection import connect
from streaming.log.frames import LogReader, Positions
from streaming.log.kafka import KafkaLogReader
from streaming.log.kafka_settings import kafka_config, last_offsets, topic_partitions
from streaming.log.valkey_layout import offset_of, recorded_shards, stream_name
from streaming.log.valkey_retention import trim
from streaming.log.valkey_streams import ValkeyLogReader


class Source(StrEnum):
    """Where live events come from."""

    VALKEY = "valkey"
    KAFKA = "kafka"


class LiveLog:
    """One live log.

    Args:
        source: which.
        settings: where Valkey is, and for how long events are kept.
        environ: says where Kafka is (`streaming.log.kafka_settings`).

    Raises:
        SettingsError: Kafka's settings are missing.
    """

    def __init__(self, source: Source, settings: Settings, environ: Mapping[str, str]) -> None:
        self.source = source
        self._settings = settings
        self._kafka = kafka_config(environ) if source is Source.KAFKA else {}

    def shards(self, client: redis.Redis[bytes], feature_set: FeatureSet | None = None) -> int:
        """Partitions of each entity's stream: as the log was created, or will be.

        Args:
            client: the store, which holds the log in Valkey.
            feature_set: whose entities; the one that the settings name unless given.
        """
        if self.source is Source.VALKEY:
            return recorded_shards(client) or SHARDS
        feature_set = feature_set or load_feature_set(self._settings.definitions)
        names = [entity.name for entity in feature_set.entities]
        return topic_partitions(self._kafka, names) or SHARDS

    def ends(self, client: redis.Redis[bytes], entity: str, shards: int) -> dict[int, int]:
        """Where each partition of an entity's stream ends now; one never written to is left out."""
        if self.source is Source.KAFKA:
            found = last_offsets(self._kafka, [entity])
            return {shard: offset for (_, shard), offset in found.items()}
        ends = {}
        for shard in range(shards):
            try:
                told: Any = client.xinfo_stream(stream_name(entity, shard))
            except ResponseError:  # nothing was ever written there
                continue
            ends[shard] = offset_of(told["last-generated-id"].decode())
        return ends

    def open(self, offsets: Positions, stopped: Callable[[], bool]) -> LogReader:
        """A reader that goes on after these offsets, until `stopped()`."""
        if self.source is Source.KAFKA:
            return KafkaLogReader(self._kafka, offsets, stopped)
        return ValkeyLogReader(connect(self._settings.redis), offsets, stopped)

    def trim(self, client: redis.Redis[bytes], committed: Positions, now: datetime) -> None:
        """Remove what is older than the retention and in a checkpoint; Kafka does it by itself."""
        if self.source is Source.VALKEY:
            trim(client, self._settings.log_retention, committed, now)
