"""Opening a log to append to: which one, with as many partitions as it has."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Literal

import redis

from feature_repo.contracts.errors import StoreUnavailableError
from feature_repo.contracts.feature_set import FeatureSet
from feature_repo.contracts.redis_address import printable_address
from feature_repo.contracts.settings import SHARDS
from feature_repo.stores.redis_connection import connect
from streaming.log.frames import EventLog

To = Literal["valkey", "kafka"]
Payload = Literal["arrow", "json"]


def open_log(
    to: To,
    feature_set: FeatureSet,
    store: str,
    environ: Mapping[str, str],
    *,
    shards: int | None = None,
    payload: Payload = "arrow",
    patience: timedelta | None = None,
) -> EventLog:
    """A log of events.

    Args:
        to: which.
        feature_set: whose entities it serves.
        store: where Valkey is (`Settings.redis`).
        environ: says where Kafka is.
        shards: partitions of a log that is created by this; None: as many as the log has, or
            `SHARDS`.
        payload: of Kafka's messages.
        patience: how long the log may be away before that is an error; None: half a minute.

    Raises:
        SettingsError: a setting is wrong, or the log has another number of partitions.
        StoreUnavailableError: the log does not answer.
    """
    if to == "kafka":
        from streaming.log.kafka import KafkaLog  # noqa: PLC0415  (only where it is used)
        from streaming.log.kafka_settings import kafka_config, topic_partitions  # noqa: PLC0415

        config = kafka_config(environ)
        if patience is not None:
            patience_ms = max(1, patience // timedelta(milliseconds=1))
            config = {"message.timeout.ms": str(patience_ms), **config}
        entities = [entity.name for entity in feature_set.entities]
        count = shards or topic_partitions(config, entities) or SHARDS
        return KafkaLog(config, feature_set, count, payload=payload)
    from streaming.log.valkey_layout import recorded_shards  # noqa: PLC0415
    from streaming.log.valkey_streams import RETRY_FOR_S, ValkeyLog  # noqa: PLC0415

    if patience is None:
        client, retry_for_s = connect(store), RETRY_FOR_S
    else:
        seconds = patience.total_seconds()
        limits = f"socket_timeout={seconds:g},socket_connect_timeout={seconds:g}"
        client, retry_for_s = connect(f"{limits},{store}"), 0.0
    try:
        count = shards or recorded_shards(client) or SHARDS
    except redis.RedisError as error:
        client.close()
        raise StoreUnavailableError(
            "event log",
            printable_address(store),
            "a Valkey or Redis server",
            "start one (make up), or set DAIMA_REDIS",
        ) from error
    return ValkeyLog(client, feature_set, count, retry_for_s=retry_for_s)
